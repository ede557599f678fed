"""reveal: open what the group agreed to publish: the final model, or the summed counts. Never one client's share.

A client vouches for one result in the life of an execution, and hands a value over only when more than half of the
group's first roster and of its own possible colluders vouch for it. Two such quorums have an honest client in common,
which vouched for one result only; so there is one.
"""

from __future__ import annotations

import math

from clients.execution import SALT_BYTES, ExecutionState, blob
from clients.home import Home
from clients.opening import opening_of
from pipeline.language.packing import Blobs
from pipeline.language.protocol import RevealReply, RevealRequest, result_digest, reveal_text
from privacy.errors import CohortTooSmall, ProtocolError


def reveal(home: Home, request: RevealRequest, blobs: dict[str, bytes]) -> tuple[RevealReply, Blobs]:
    """The signed digest of what this client opens; against a quorum's signatures of the same digest also the value.

    Raises CohortTooSmall, SumRejected, ProtocolError. Asking again gives the same answer.
    """
    state = ExecutionState(home, request.execution)
    made = state.result()
    if made is None:
        value = _model(state, request, blobs) if request.what == "model" else _counts(state, request, blobs)
        salt = state.membership.holder(request.sums[-1].generation).salt(request.what)
        state.close(salt, value)
        made = salt + value
    salt, value = made[:SALT_BYTES], made[SALT_BYTES:]
    digest = result_digest(salt, value)
    text = reveal_text(request.execution, request.what, digest)
    reply = RevealReply(
        digest=digest,
        signature=home.identity.sign(text).hex(),
        spent=_rounded(state.spent()),
        lifetime=_rounded(home.ledger.spent()),
    )
    if not request.certificate:
        return reply, {}
    roster = state.membership.roster(1)
    vouching = [
        name
        for name, signature in request.certificate.items()
        if name in roster and roster[name].verify(bytes.fromhex(signature), text)
    ]
    least = home.policy.quorum(len(roster))
    if len(vouching) < least:
        raise CohortTooSmall(
            f"{len(vouching)} clients vouch for the result; of a group of {len(roster)} at least {least} must",
            travels=True,
        )
    return reply, {"value": value, "salt": salt}


def _model(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    model = state.model()
    if model is None:
        raise ProtocolError("this client has no model of the execution", travels=True)
    opening = opening_of(state.opening(), state.home.policy.allowed_kinds)
    model = state.advance(model, request.sums, blobs, opening.applied(state), keep=True)
    if model.applied == 0:
        raise ProtocolError("no round was trained: there is nothing to reveal", travels=True)
    return model.weights.astype("<f4").tobytes()


def _counts(state: ExecutionState, request: RevealRequest, blobs: dict[str, bytes]) -> bytes:
    if len(request.sums) != 1 or request.sums[0].round != 1:
        raise ProtocolError("a question has one sum", travels=True)
    (ref,) = request.sums
    purpose = state.membership.purpose(ref.generation)
    if purpose == "train":
        raise ProtocolError("the group is for train, not for counts", travels=True)
    return state.open_counts(ref, blob(blobs, "sum-1"), purpose, request.count).astype("<i8").tobytes()


def _rounded(epsilon: float) -> float | None:
    """Up to 0.01: nobody needs more."""
    return None if math.isinf(epsilon) else math.ceil(epsilon * 100 - 1e-9) / 100
