"""evaluate: how the revealed model does on the held-out rows, as a sealed vector of noisy whole numbers.

The task's question says what is counted, and how much one record adds to it at most; at client level the whole vector
has a fixed norm. Every metric follows from the sum of the vectors.
"""

from __future__ import annotations

import math

import numpy as np

from clients.execution import ExecutionState, blob, sealed_once
from clients.home import Home
from clients.planning import Spending, by_person, training_rows
from clients.preprocessing import find_features
from clients.release import Vector, into_sum
from pipeline.language.lines import evaluation_line
from pipeline.language.packing import Blobs, weights_from
from pipeline.language.protocol import EvaluateReply, EvaluateRequest
from pipeline.learning.models.net import Weights
from pipeline.learning.queries.query import Rows
from privacy.accounting import Release
from privacy.errors import ProtocolError
from privacy.noise import Integers, SecureNoise
from privacy.population import EVERYONE, Charge
from privacy.statement import agreed, basis_of
from privacy.stream import Words

ONE_CLIENT = 1000
"""L2 norm of one client's counts under client-level privacy, in units of what one record adds: what one client can
change at most."""


def evaluate(home: Home, request: EvaluateRequest, blobs: dict[str, bytes]) -> tuple[EvaluateReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, RoundLost, LedgerRolledBack, ProtocolError."""
    task = request.spec.task
    net = request.model.net(request.spec.shape, task.outputs, request.training.seed)
    question = task.question(request.evaluation.bins)
    home.policy.permit_model(net.parameters)
    home.policy.permit_privacy(request.privacy)
    state = ExecutionState(home, request.execution)
    home.show_ledger(request.seen)
    features = find_features(home, request.features, request.spec, request.holdout)
    rows = training_rows(home.policy.units_declared(request.privacy), request.holdout)
    spending = Spending(request.privacy, request.lines, rows, request.shares)
    line = evaluation_line(request.privacy, question)
    spending.demand(line)
    release, shares = spending.release(line.purpose), spending.noise
    terms = agreed(request.basis, state.membership.agreed_noise(request.attempt, shares))
    norm = question.norm if shares is None else ONE_CLIENT * math.ceil(question.norm)
    noise = norm * (release.noise_multiplier if shares is None else shares.deviation / shares.clipping_norm)
    statement = state.membership.statement("evaluate", 1, request.attempt, terms)
    population = features.population("held-out", request.holdout)
    asked = Vector(
        id=f"{request.execution}/evaluate/1",
        name=sealed_once(f"evaluate-{request.basis}", statement, shares),
        statement=statement,
        charge=Charge([release], EVERYONE if shares else population),
        lost="this evaluation was charged and then interrupted here; it is not made twice",
    )
    holder = state.membership.holder(request.attempt.generation)

    def prepare() -> Weights:
        content = blob(blobs, "weights")
        if basis_of(content) != request.basis:
            raise ProtocolError("the weights are not those that the request names", travels=True)
        return weights_from(content, net.parameters)

    def make(weights: Weights) -> Words:
        state.note_beside(spending.beside(line.purpose))
        split = features.split("held-out", request.holdout)
        if by_person(request.privacy):
            split = split.one_a_person(SecureNoise())
        counts = question.count(Rows(split.targets), task.predictions(net.outputs(weights, split.features)))
        if shares:
            counts = of_one_client(counts, norm)
        if noise:
            counts = counts + whole_noise(noise, len(counts), release)
        return holder.integers(counts)

    sealed = into_sum(state, holder, asked, prepare, make)
    return EvaluateReply(head=home.published_head, noise=noise), {"sealed": sealed}


def whole_noise(deviation: float, count: int, release: Release) -> Integers:
    """Whole numbers of noise: discrete Gaussian, or a Gaussian that is rounded. To add it to whole numbers and to round
    what a Gaussian made of them is the same, so rounding costs nothing."""
    source = SecureNoise()
    if release.mechanism == "discrete-gaussian":
        return source.discrete_gaussian(deviation, count)
    rounded: Integers = np.rint(deviation * source.normal(count)).astype(np.int64)
    return rounded


def of_one_client(counts: Integers, most: float) -> Integers:
    """Counts scaled to an L2 norm of at most `most`: every client weighs the same, however many rows it has."""
    norm = max(1.0, float(np.linalg.norm(counts)))
    scaled: Integers = np.trunc(counts * (most / norm)).astype(np.int64)
    return scaled
