"""reveal: open what the group agreed to publish: the final model, or the summed counts. Never one client's share."""

from __future__ import annotations

import hashlib
import math

from clients.execution import ExecutionState, blob
from clients.home import Home
from pipeline.packing import Blobs
from pipeline.protocol import RevealReply, RevealRequest, reveal_text
from privacy.errors import CohortTooSmall, ProtocolError


def reveal(home: Home, request: RevealRequest, blobs: dict[str, bytes]) -> tuple[RevealReply, Blobs]:
    """The signed digest of what this client opens; against a quorum's signatures of the same digest also the value.

    Raises CohortTooSmall, SumRejected, ReplayRefused, ProtocolError. Asking again gives the same answer.
    """
    state = ExecutionState(home, request.execution)
    value = _model(state, request, blobs) if request.what == "model" else _counts(state, request, blobs)
    digest = hashlib.sha256(value).hexdigest()
    text = reveal_text(request.execution, request.what, digest)
    reply = RevealReply(
        digest=digest,
        signature=home.identity.sign(text).hex(),
        spent=_rounded(home.ledger.spent(f"{request.execution}/")),
        lifetime=_rounded(home.ledger.spent()),
    )
    if not request.certificate:
        return reply, {}
    roster = state.membership.roster(request.sums[-1].generation)
    vouching = [
        name
        for name, signature in request.certificate.items()
        if name in roster and roster[name].verify(bytes.fromhex(signature), text)
    ]
    if len(vouching) < home.policy.min_cohort:
        raise CohortTooSmall(
            f"{len(vouching)} clients vouch for the result; this client's policy demands {home.policy.min_cohort}",
            travels=True,
        )
    return reply, {"value": value}


def _model(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    model = state.model()
    if model is None:
        raise ProtocolError("this client has no model of the execution", travels=True)
    model = state.advance(model, request.sums, blobs, request.bound)
    if model.applied == 0:
        raise ProtocolError("no round was trained: there is nothing to reveal", travels=True)
    state.close()
    return model.weights.astype("<f4").tobytes()


def _counts(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    (ref,) = request.sums
    return state.open_counts(ref, blob(blobs, f"sum-{ref.round}"), "evaluate", request.count).astype("<i8").tobytes()


def _rounded(epsilon: float) -> float | None:
    """Up to 0.01: the exact value would say how many rows there are."""
    return None if math.isinf(epsilon) else math.ceil(epsilon * 100 - 1e-9) / 100
