"""train: one round. Apply the last sum, take the plan's steps, seal the update. Charged before data is touched.

What is sealed is the update times the client's weight, and the weight itself as one more value: the sum of both gives
the weighted mean. The weight follows from the rows that the owner declares, so nobody learns how many there are.
Personal layers go on from where this client left them; its update carries how far they are from the mean, so that the
mean is what the others know of them.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from clients.execution import ExecutionState, GlobalModel, blob, sealed_once
from clients.home import Home
from clients.preprocessing import Split, find_features
from clients.release import Vector, into_sum
from pipeline.language.lines import Lines, training_line
from pipeline.language.packing import Blobs, weights_from
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
from privacy.statement import agreed, basis_of
from privacy.stream import Words


def train(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
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
    spending.demand(training_line(request.privacy, request.training))
    fixed = state.plan(settings)
    plan = fixed or spending.plan(request.training)
    if fixed is None:
        spending.afford(home.ledger, request.holdout, population.basis, since="training")
    noise = state.membership.agreed_noise(request.attempt, plan.shares)
    state.refuse_if_closed()
    bound, server = request.encryption.bound, request.training.server
    before = state.advance(_current(state, net, blobs), request.sums, blobs, bound, server)
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
            state.fix_plan(plan, settings, bound, server)
        split = features.split("training", request.holdout)
        moved = _trained(state, request, net, before, plan, split) - before.weights.astype(np.float64)
        if plan.shares:
            return holder.noised(moved.astype(np.float64), statement, plan.shares, SecureNoise())
        return holder.quantised(np.append(plan.weight * moved, plan.weight * bound), statement, bound)

    sealed = into_sum(state, holder, asked, prepare, make)
    return TrainReply(head=home.published_head), {"sealed": sealed}


def settings_of(request: TrainRequest) -> str:
    """Digest of all that must stay what it was in an execution's first round."""
    fixed = request.model_dump_json(exclude={"round", "attempt", "sums", "seen", "lines"})
    lines = Lines(lines=request.lines).narrowed("training").model_dump_json()
    return hashlib.sha256(f"{fixed} {lines}".encode()).hexdigest()


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


def _current(state: ExecutionState, net: Net, blobs: dict[str, bytes]) -> GlobalModel:
    """The model this client has, or the initial one: kept once its first round was charged."""
    if model := state.model():
        return model
    if "initial" not in blobs:
        raise ProtocolError("this client has lost its model of the execution", travels=True)
    initial = blob(blobs, "initial")
    return GlobalModel(weights_from(initial, net.parameters), 0, basis_of(initial))
