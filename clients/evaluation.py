"""evaluate: how the revealed model scores on the held-out rows, as a sealed histogram with discrete Gaussian noise.

Counts are [2, bins]: for the negative and the positive class, how many rows score in each bin of [0, 1]. One record
changes one count by one; at client level the whole vector has a fixed norm. Everything the evaluation reports (ROC-AUC,
PR-AUC, accuracy, ...) follows from their sum.
"""

from __future__ import annotations

import numpy as np

from clients.execution import ExecutionState, blob, sealed_once
from clients.home import Home
from clients.planning import checks_of, evaluation_of
from clients.preprocessing import find_features
from pipeline.language.packing import Blobs, weights_from
from pipeline.language.protocol import EvaluateReply, EvaluateRequest
from pipeline.learning.models import mlp as models
from pipeline.learning.tasks.binary import score_counts
from privacy.errors import ProtocolError, RoundLost
from privacy.noise import Integers, SecureNoise
from privacy.population import EVERYONE
from privacy.statement import agreed, basis_of

ONE_CLIENT = 1000
"""L2 norm of one client's counts under client-level privacy: what one client can change at most."""


def evaluate(home: Home, request: EvaluateRequest, blobs: dict[str, bytes]) -> tuple[EvaluateReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, RoundLost, LedgerRolledBack, ProtocolError."""
    home.policy.permit_model(models.parameter_count(request.model, request.spec.width))
    home.policy.permit_privacy(request.privacy)
    state = ExecutionState(home, request.execution)
    charge = f"{request.execution}/evaluate/1"
    home.show_ledger(request.seen)
    features = find_features(home, request.features, request.spec, request.holdout)
    beside = checks_of(request.privacy, request.checks_share, len(request.spec.columns))
    release, shares = evaluation_of(request.privacy, request.training, request.shares, beside)
    terms = agreed(request.basis, state.membership.agreed_noise(request.attempt, shares))
    noise = release.noise_multiplier if shares is None else ONE_CLIENT * shares.deviation / shares.clipping_norm
    statement = state.membership.statement("evaluate", 1, request.attempt, terms)
    holder = state.membership.holder(request.attempt.generation)
    key = sealed_once(f"evaluate-{request.basis}", statement, shares)
    if (made := state.stored(key, holder)) is None:
        if home.ledger.has(charge):
            raise RoundLost("this evaluation was charged and then interrupted here; it is not made twice", travels=True)
        content = blob(blobs, "weights")
        if basis_of(content) != request.basis:
            raise ProtocolError("the weights are not those that the request names", travels=True)
        weights = weights_from(content, models.parameter_count(request.model, request.spec.width))
        holder.permit(statement)
        population = features.population("held-out", request.holdout)
        home.ledger.reserve(charge, [release], EVERYONE if shares else population)
        state.note_beside(beside)
        split = features.split("held-out", request.holdout)
        scores = models.scores(request.model, request.spec.width, weights, split.features)
        counts = score_counts(scores, split.labels, request.evaluation.bins).reshape(-1)
        if shares:
            counts = of_one_client(counts)
        if noise:
            counts = counts + SecureNoise().discrete_gaussian(noise, len(counts))
        made = holder.integers(counts)
        state.store(key, holder, made)
    home.ledger.commit(charge)
    reply = EvaluateReply(head=home.published_head, noise=noise)
    return reply, {"sealed": holder.seal(made, statement)}


def of_one_client(counts: Integers) -> Integers:
    """Counts scaled to an L2 norm of at most ONE_CLIENT: every client weighs the same, however many rows it has."""
    norm = max(1.0, float(np.linalg.norm(counts)))
    scaled: Integers = np.floor(counts * (ONE_CLIENT / norm)).astype(np.int64)
    return scaled
