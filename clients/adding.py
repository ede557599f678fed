"""train, where the model is learned from sums: apply the last sum, answer what the model asks next. Charged before data
is touched."""

from __future__ import annotations

import hashlib

import numpy as np

from clients.asking import Asked, answer, deviation_of
from clients.execution import ExecutionState, GlobalModel, blob
from clients.home import Home
from clients.opening import Counts
from clients.preprocessing import find_features
from pipeline.language.lines import Lines, training_line
from pipeline.language.packing import Blobs, weights_from
from pipeline.language.protocol import TrainReply, TrainRequest
from pipeline.language.spending import Spending, by_person, training_rows
from pipeline.learning.models.net import PROBED, Net, Weights
from pipeline.learning.models.summing import NORM, Summing
from pipeline.learning.tasks.task import Task
from privacy.errors import PathBroken, ProtocolError
from privacy.noise import Integers, SecureNoise
from privacy.statement import basis_of


def add(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, SumRejected, RoundLost, LedgerRolledBack, ProtocolError."""
    task = request.spec.task
    home.policy.permit_privacy(request.privacy)
    state = ExecutionState(home, request.execution)
    home.show_ledger(request.seen)
    features = find_features(home, request.features, request.spec, request.holdout)
    population = features.population("training", request.holdout)
    settings = settings_of(request)
    rows = training_rows(home.policy.units_declared(request.privacy), request.holdout)
    spending = Spending(request.privacy, request.lines, rows, request.shares)
    line = training_line(request.privacy, request.training, request.model)
    fixed = state.plan(settings)
    if fixed is None:
        spending.demand(line)
        spending.afford(home.ledger, request.holdout, population.basis, since="training")
    plan = fixed or spending.plan(request.training, request.model)
    state.refuse_if_closed()
    release = plan.round()
    noise = deviation_of(NORM, release, spending.shared("training", NORM, release))
    # To six digits: the search for it may differ between machines in the last ones, and what follows may not.
    opening = Counts(model=request.model, spec=request.spec, seed=request.training.seed, noise=float(f"{noise:.6g}"))
    net = opening.net
    if fixed is None:
        home.policy.permit_model(max(net.parameters, *(net.size(task, step) for step in range(net.rounds))))
    before = state.advance(
        current(state, net, blobs), request.sums, blobs, opening.applied(state), keep=fixed is not None
    )

    def prepare() -> None:
        if request.round > plan.rounds:
            raise ProtocolError(f"round {request.round} of {plan.rounds}", travels=True)
        keep_to_norm(net, task, before.weights, request.round)

    def count(_: None) -> Integers:
        if fixed is None:
            state.save_model(before)
            state.fix_plan(plan, settings, opening)
        split = features.split("training", request.holdout)
        if by_person(request.privacy):
            split = split.one_a_person(SecureNoise())
        return net.count(task, before.weights, split.features, split.targets, request.round)

    asked = Asked(
        purpose="train",
        norm=NORM,
        line=line,
        basis=before.basis,
        attempt=request.attempt,
        population=population,
        round=request.round,
        release=release,
        rows=rows,
    )
    sealed, _ = answer(state, spending, asked, prepare, count)
    return TrainReply(head=home.published_head), {"sealed": sealed}


def keep_to_norm(net: Summing, task: Task, weights: Weights, number: int) -> None:
    """Raise PathBroken unless made-up records add no more than is accounted for: tried before each charge."""
    examples = net.examples(PROBED)
    targets = task.outcomes(np.linspace(0.0, 0.999, PROBED))
    for row in range(PROBED):
        one = slice(row, row + 1)
        if np.linalg.norm(net.count(task, weights, examples[one], targets[one], number)) > NORM:
            raise PathBroken(
                "one record adds more to a sum than is accounted for",
                remedy="Install the same version of its package on both sides.",
                travels=True,
            )


def settings_of(request: TrainRequest) -> str:
    """Digest of all that must stay what it was in an execution's first round."""
    fixed = request.model_dump_json(exclude={"round", "attempt", "sums", "seen", "lines"})
    lines = Lines(lines=request.lines).narrowed("training").model_dump_json()
    return hashlib.sha256(f"{fixed} {lines}".encode()).hexdigest()


def current(state: ExecutionState, net: Net, blobs: dict[str, bytes]) -> GlobalModel:
    """The model this client has, or the initial one: kept once its first round was charged."""
    if model := state.model():
        return model
    if "initial" not in blobs:
        raise ProtocolError("this client has lost its model of the execution", travels=True)
    initial = blob(blobs, "initial")
    weights = weights_from(initial, net.parameters)
    if isinstance(net, Summing) and weights.any():
        raise ProtocolError("what is learned from sums begins with nothing", travels=True)
    return GlobalModel(weights, 0, basis_of(initial))
