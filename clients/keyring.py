"""keys: the group key of an execution. The leader makes and wraps it; each member unwraps its own copy."""

from __future__ import annotations

import secrets

from clients.execution import ExecutionState, blob
from clients.home import Home
from pipeline.protocol import Blobs, KeysReply, KeysRequest
from privacy.cipher import Group
from privacy.errors import ProtocolError
from privacy.keys import MASTER_BYTES, open_group, roster_hash, seal_group, unwrap, wrap


def keys(home: Home, request: KeysRequest, blobs: dict[str, bytes]) -> tuple[KeysReply, Blobs]:
    """Without blobs, to the leader: makes the key; the reply's blobs are `context` and `wrapped-<name>`.

    With blobs `context` and `wrapped`: takes it. Repeated for an execution it gives the same key again.
    Raises CohortTooSmall, ProtocolError, SumRejected.
    """
    home.policy.permit_cohort(len(request.roster))
    roster = {name: bytes.fromhex(key) for name, key in request.roster.items()}
    if roster.get(home.policy.name) != home.identity.public:
        raise ProtocolError("the roster does not hold this client under its own key", travels=True)
    state = ExecutionState(home, request.execution)
    binding = roster_hash(request.execution, roster)
    if blobs:
        master = unwrap(home.identity, roster[request.leader], binding, blob(blobs, "wrapped"))
        state.join_group(open_group(request.scheme, master, binding, blob(blobs, "context")), roster)
        return KeysReply(), {}
    if request.leader != home.policy.name:
        raise ProtocolError("this client is not the leader", travels=True)
    group = Group.create(request.scheme, secrets.token_bytes(MASTER_BYTES))
    wrapped = {f"wrapped-{name}": wrap(home.identity, key, binding, group.master) for name, key in roster.items()}
    return KeysReply(), {"context": seal_group(group, binding), **wrapped}
