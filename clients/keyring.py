"""keys: the group key of an execution. The leader makes and wraps it; each member unwraps its own copy."""

from __future__ import annotations

from clients.execution import ExecutionState, blob
from clients.home import Home
from pipeline.packing import Blobs
from pipeline.protocol import KeysReply, KeysRequest
from privacy.errors import ProtocolError
from privacy.group import Group, Offer, Terms
from privacy.keys import PublicKeys


def keys(home: Home, request: KeysRequest, blobs: dict[str, bytes]) -> tuple[KeysReply, Blobs]:
    """Without blobs, to the leader: makes the key; the reply's blobs are `signature`, `key` and `wrapped-<name>`.

    With blobs `signature`, `key` and `wrapped`: takes it. Raises CohortTooSmall, PlanInvalid, KeyMismatch,
    ProtocolError, SumRejected.
    """
    home.policy.permit_cohort(len(request.roster))
    home.policy.permit_group(request.masks)
    terms = _terms(request)
    if terms.roster.get(home.policy.name) != home.identity.public:
        raise ProtocolError("the roster does not hold this client under its own keys", travels=True)
    home.known_clients.admit(terms.roster)
    state = ExecutionState(home, request.execution)
    state.membership.permit(terms)
    if blobs:
        offer = Offer(blob(blobs, "signature"), blob(blobs, "wrapped"), blob(blobs, "key"))
        state.join(Group.join(terms, home.identity, request.leader, offer))
        return KeysReply(), {}
    if request.leader != home.policy.name:
        raise ProtocolError("this client is not the leader", travels=True)
    group = Group.create(terms)
    wrapped = {f"wrapped-{name}": group.wrapped(home.identity, member) for name, member in terms.roster.items()}
    return KeysReply(), {"signature": home.identity.sign(terms.digest), "key": group.sealed_key(), **wrapped}


def _terms(request: KeysRequest) -> Terms:
    try:
        roster = {name: PublicKeys.from_hex(text) for name, text in request.roster.items()}
    except ValueError:
        raise ProtocolError("the roster holds a key that is not one", travels=True) from None
    keys = [key for member in roster.values() for key in (member.exchange, member.signing)]
    if len(set(keys)) != len(keys):
        raise ProtocolError("two members of the roster have the same key: one client under two names", travels=True)
    return Terms(request.execution, request.generation, request.scheme, request.masks, roster)
