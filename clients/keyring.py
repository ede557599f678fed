"""keys: the group key of an execution. The leader makes and wraps it; each member unwraps its own copy."""

from __future__ import annotations

from clients.execution import ExecutionState, blob
from clients.home import Home
from pipeline.language.packing import Blobs
from pipeline.language.protocol import KeysReply, KeysRequest
from privacy.errors import ClientUnknown, ProtocolError
from privacy.group import Group, Offer, Terms
from privacy.keys import PublicKeys

SHOWN = 100
"""Names of a refused roster that the client's own log has."""


def keys(home: Home, request: KeysRequest, blobs: dict[str, bytes]) -> tuple[KeysReply, Blobs]:
    """Without blobs, to the leader: makes the key; the reply's blobs are `signature`, `key` and `wrapped-<name>`.

    With blobs `signature`, `key` and `wrapped`: takes it. Raises CohortTooSmall, PlanInvalid, KeyMismatch,
    ClientUnknown, ReplayRefused, ProtocolError, SumRejected.
    """
    home.policy.permit_cohort(len(request.roster))
    home.policy.permit_group(request.scheme, request.masks)
    terms = _terms(request)
    if terms.roster.get(home.policy.name) != home.identity.public:
        raise ProtocolError("the roster does not hold this client under its own keys", travels=True)
    others = {name: keys for name, keys in terms.roster.items() if name != home.policy.name}
    try:
        met = home.known_clients.check(others, known_only=home.policy.known_clients_only)
    except ClientUnknown:
        shown = sorted((name, keys.fingerprint) for name, keys in others.items())[:SHOWN]
        home.log(f"keys {request.execution}: the roster shows {', '.join(f'{name} {key}' for name, key in shown)}")
        raise
    home.policy.permit_group_size(len(terms.roster))
    state = ExecutionState(home, request.execution)
    state.begin()
    state.membership.permit(terms)
    if blobs:
        offer = Offer(blob(blobs, "signature"), blob(blobs, "wrapped"), blob(blobs, "key"))
        group = Group.join(terms, home.identity, request.leader, offer)
        for name, fingerprint in met.items():  # only now: the leader has signed for them
            home.log(
                f"met {name} for the first time: {fingerprint}; compare it, then: sottovoce client roster pin {name}"
            )
        home.known_clients.meet(met)
        state.join(group)
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
    return Terms(request.execution, request.purpose, request.generation, request.scheme, request.masks, roster)
