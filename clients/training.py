"""train, by local steps: apply the last sum, take the plan's steps, seal the update. Charged before data is touched.

What is sealed is the update times the client's weight, and the weight itself as one more value: the sum of both gives
the weighted mean. The weight follows from the rows that the owner declares, so nobody learns how many there are.
Personal layers go on from where this client left them; its update carries how far they are from the mean, so that the
mean is what the others know of them.
"""

from __future__ import annotations

import numpy as np
import torch

from clients.adding import current, settings_of
from clients.execution import ExecutionState, GlobalModel, sealed_once
from clients.home import Home
from clients.opening import Updates
from clients.preprocessing import Split, find_features
from clients.release import Vector, into_sum
from pipeline.language.lines import training_line
from pipeline.language.packing import Blobs
from pipeline.language.protocol import TrainReply, TrainRequest
from pipeline.language.spending import Spending, training_rows
from pipeline.learning.models.net import PROBED, Net, Weights
from pipeline.learning.tasks.task import Task
from privacy.conformance import conform
from privacy.dpsgd import Optimisation, train_round
from privacy.errors import KindDiffers, ProtocolError
from privacy.noise import SecureNoise
from privacy.parameters import flat
from privacy.plan import DPPlan
from privacy.population import EVERYONE, Charge
from privacy.probing import probe
from privacy.statement import agreed
from privacy.stream import Words


def step(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, SumRejected, RoundLost, LedgerRolledBack, ProtocolError."""
    net = request.model.net(request.spec.shape, request.spec.task.outputs, request.training.seed)
    home.policy.permit_model(net.parameters)
    home.policy.permit_privacy(request.privacy)
    _permit_parts(net, request)
    state = ExecutionState(home, request.execution)
    home.show_ledger(request.seen)
    features = find_features(home, request.features, request.spec, request.holdout)
    population = features.population("training", request.holdout)
    settings = settings_of(request)
    rows = training_rows(home.policy.units_declared(request.privacy), request.holdout)
    spending = Spending(request.privacy, request.lines, rows, request.shares)
    spending.demand(training_line(request.privacy, request.training, request.model))
    fixed = state.plan(settings)
    plan = fixed or spending.plan(request.training, request.model)
    if fixed is None:
        spending.afford(home.ledger, request.holdout, population.basis, since="training")
    noise = state.membership.agreed_noise(request.attempt, plan.shares)
    state.refuse_if_closed()
    opening = Updates(bound=request.encryption.bound, server=request.training.server)
    before = state.advance(
        current(state, net, blobs), request.sums, blobs, opening.applied(state), keep=fixed is not None
    )
    terms = agreed(before.basis, noise)
    statement = state.membership.statement("train", request.round, request.attempt, terms)
    asked = Vector(
        id=f"{request.execution}/train/{request.round}",
        name=sealed_once(f"train-{request.round}", statement, plan.shares),
        statement=statement,
        charge=Charge([plan.round()], EVERYONE if plan.shares else population),
        lost="this round was charged and then interrupted here; it is not trained twice",
    )
    holder = state.membership.holder(request.attempt.generation)

    def prepare() -> None:
        if request.round > plan.rounds:
            raise ProtocolError(f"round {request.round} of {plan.rounds}", travels=True)
        if fixed is None:
            _try(net, before.weights, request.spec.task, plan)

    def make(_: None) -> Words:
        if fixed is None:
            state.save_model(before)
            state.note_beside(spending.beside("training"))
            state.fix_plan(plan, settings, opening)
        split = features.split("training", request.holdout)
        moved = _trained(state, request, net, before, plan, split) - before.weights.astype(np.float64)
        if plan.shares:
            return holder.noised(moved.astype(np.float64), statement, plan.shares, SecureNoise())
        bound = opening.bound
        return holder.quantised(np.append(plan.weight * moved, plan.weight * bound), statement, bound)

    sealed = into_sum(state, holder, asked, prepare, make)
    return TrainReply(head=home.published_head), {"sealed": sealed}


def _try(net: Net, weights: Weights, task: Task, plan: DPPlan) -> None:
    """Raise PlanInvalid or PathBroken unless the model can be trained here as it is accounted for."""
    module, examples = net.module(weights), torch.from_numpy(net.examples(PROBED))
    if not net.checked:
        probe(module, examples, task.outputs)
    if plan.unit in ("record", "subject"):
        targets = torch.from_numpy(task.outcomes(np.linspace(0.0, 0.999, PROBED)))
        conform(module, task.losses, plan, examples, targets)


def _permit_parts(net: Net, request: TrainRequest) -> None:
    """Raise KindDiffers unless what of the model is not trained is here what it is at the coordinator."""
    if net.frozen != request.frozen:
        raise KindDiffers(
            f"the parameters of {request.model.kind} that are not trained are not those of the coordinator",
            remedy="Install the same files on both sides, and make the same module everywhere.",
            travels=True,
        )


def _trained(
    state: ExecutionState, request: TrainRequest, net: Net, before: GlobalModel, plan: DPPlan, split: Split
) -> Weights:
    """All weights after this round's local training; the personal ones are kept."""
    weights, shared = before.weights.copy(), net.shared
    if shared < net.parameters and (own := state.personal()) is not None:
        weights[shared:] = own
    module = net.module(weights)
    elapsed = (request.round - 1) / request.training.rounds
    rate = request.training.learning_rate * (1 - request.training.decay * elapsed)
    training, examples = request.training, torch.from_numpy(net.examples(PROBED))
    optimisation = Optimisation(rate, training.momentum, training.proximal, training.optimizer)
    features, targets = torch.from_numpy(split.features), torch.from_numpy(split.targets)
    losses = request.spec.task.losses
    persons = split.persons if plan.unit == "subject" else None
    train_round(module, features, targets, losses, plan, optimisation, SecureNoise(), examples, persons)
    trained = flat(module)
    if shared < net.parameters:
        state.save_personal(trained[shared:])
    return trained
