"""train: one round, however the model is learned. Local steps need torch, and what is learned from sums does not."""

from __future__ import annotations

from clients.home import Home
from pipeline.language.packing import Blobs
from pipeline.language.protocol import TrainReply, TrainRequest


def train(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, SumRejected, RoundLost, LedgerRolledBack, ProtocolError."""
    if request.model.sums:
        from clients.adding import add

        return add(home, request, blobs)
    from clients.training import step

    return step(home, request, blobs)
