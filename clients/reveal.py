"""reveal: open what the group agreed to publish: the final model, or the summed counts. Never one client's share."""

from __future__ import annotations

import hashlib
import math

from clients.evaluation import OFFSET
from clients.execution import ExecutionState, blob
from clients.home import Home
from pipeline.protocol import Blobs, RevealReply, RevealRequest
from privacy.errors import ProtocolError
from privacy.quantise import Quantiser


def reveal(home: Home, request: RevealRequest, blobs: dict[str, bytes]) -> tuple[RevealReply, Blobs]:
    """Raises CohortTooSmall, SumRejected, ProtocolError. Asking again gives the same answer."""
    state = ExecutionState(home, request.execution)
    value = _model(state, request, blobs) if request.what == "model" else _counts(state, request, blobs)
    reply = RevealReply(
        digest=hashlib.sha256(value).hexdigest(),
        spent=_rounded(home.ledger.spent(f"{request.execution}/")),
        lifetime=_rounded(home.ledger.spent()),
    )
    return reply, {"value": value} if request.value else {}


def _model(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    model = state.model()
    if model is None:
        raise ProtocolError("this client has no model of the execution", travels=True)
    quantiser = Quantiser(request.bound, len(state.roster))
    model = state.advance(model, request.sums, blobs, quantiser)
    if model.applied == 0:
        raise ProtocolError("no round was trained: there is nothing to reveal", travels=True)
    state.close()
    return model.weights.astype("<f4").tobytes()


def _counts(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    (ref,) = request.sums
    slots = state.open_sum(ref, blob(blobs, f"sum-{ref.round}"), "evaluate", request.count)
    return (slots - OFFSET * len(ref.clients)).astype("<i8").tobytes()


def _rounded(epsilon: float) -> float | None:
    """Up to 0.01: the exact value would say how many rows there are."""
    return None if math.isinf(epsilon) else math.ceil(epsilon * 100 - 1e-9) / 100
