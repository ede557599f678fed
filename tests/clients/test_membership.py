"""What a client insists on in its group, whatever the coordinator says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients import keyring
from clients.execution import KEPT_EXECUTIONS, ExecutionState, end_execution
from clients.home import Home
from clients.roster import KnownClients
from pipeline.language.protocol import Attempt, KeysRequest, SumRef
from privacy.accounting import Release
from privacy.errors import (
    ClientUnknown,
    CohortTooSmall,
    KeyMismatch,
    PlanInvalid,
    ProtocolError,
    ReplayRefused,
    SumRejected,
)
from privacy.group import Group, Terms
from privacy.keys import Identity
from privacy.population import EVERYONE
from privacy.shares import NoiseShares
from privacy.statement import Statement
from privacy.sums import Holder
from tests.support import configured, homes_for

NAMES = ("centre", "east", "north", "south", "west")


@pytest.fixture
def state(tmp_path: Path, dataset: Path) -> ExecutionState:
    homes = homes_for(configured(dataset), tmp_path)
    return ExecutionState(Home(homes["east"]), "e1")


def terms(generation: int = 1, names: tuple[str, ...] = NAMES) -> Terms:
    roster = {name: Identity(bytes([number]) * 64).public for number, name in enumerate(NAMES, start=1)}
    return Terms("e1", "train", generation, "none", False, {name: roster[name] for name in names})


def refuses(state: ExecutionState, statement: Statement, ref: SumRef, sealed: bytes) -> None:
    with pytest.raises(SumRejected, match="the sum does not open"):
        state.membership.open(statement, ref, sealed, "", lambda: pytest.fail("it was decrypted"))


def rejecting() -> None:
    raise SumRejected("does not verify")


def test_a_round_is_asked_about_once_also_after_a_restart(state: ExecutionState) -> None:
    statement, ref = Statement("e1", "train", 1, NAMES), SumRef(round=1, generation=1, clients=NAMES)
    assert state.membership.open(statement, ref, b"sum", "", lambda: 7) == 7
    again = ExecutionState(state.home, "e1")
    assert again.membership.open(statement, ref, b"sum", "", lambda: 7) == 7, "the same question, after a crash"
    refuses(again, replace(statement, cohort=NAMES[:4]), ref, b"sum")
    refuses(again, statement, ref, b"another sum")
    refuses(again, statement, ref.model_copy(update={"clients": NAMES[:4]}), b"sum")
    assert again.membership.open(replace(statement, round=2), ref, b"another sum", "", lambda: 8) == 8


def test_a_key_that_failed_to_open_once_opens_nothing_more(state: ExecutionState) -> None:
    statement, ref = Statement("e1", "train", 1, NAMES), SumRef(round=1, generation=1, clients=NAMES)
    with pytest.raises(SumRejected, match="the sum does not open"):
        state.membership.open(statement, ref, b"bad", "", rejecting)
    refuses(state, statement, ref, b"bad")
    refuses(state, statement, ref, b"good")
    refuses(state, replace(statement, round=2), ref, b"good")
    renewed = ref.model_copy(update={"generation": 2})
    assert state.membership.open(replace(statement, round=2), renewed, b"good", "", lambda: 9) == 9


def test_sums_over_too_few_or_over_strangers_are_refused(state: ExecutionState) -> None:
    state.join(Group.create(terms()))
    grant(state, require_encryption=False, require_masks=False)
    few = SumRef(round=1, generation=1, clients=NAMES[:2], absent=NAMES[2:])
    with pytest.raises(CohortTooSmall):
        state.open_values(few, b"", "train", 1, 1.0)
    twice = SumRef(round=1, generation=1, clients=("east",) * 5)
    with pytest.raises(CohortTooSmall):
        state.open_values(twice, b"", "train", 1, 1.0)
    stranger = SumRef(round=1, generation=1, clients=(*NAMES, "mallory"))
    with pytest.raises(ProtocolError, match="mallory"):
        state.open_values(stranger, b"", "train", 1, 1.0)
    with pytest.raises(CohortTooSmall):
        state.membership.statement("train", 1, Attempt(generation=1, cohort=("east",)))


def test_generations_follow_one_another_and_only_shrink(state: ExecutionState) -> None:
    membership = state.membership
    with pytest.raises(ProtocolError, match="generation 2"):
        membership.permit(terms(2))
    membership.permit(terms(1))
    membership.join(Group.create(terms(1, NAMES[:4])))
    membership.permit(terms(2, NAMES[:3]))
    with pytest.raises(ProtocolError, match="west"):
        membership.permit(terms(2, NAMES))
    with pytest.raises(ProtocolError, match="something else"):
        membership.permit(replace(terms(2, NAMES[:3]), purpose="evaluate"))
    membership.join(Group.create(terms(2, NAMES[:3])))
    with pytest.raises(ProtocolError, match="generation 1 was agreed on otherwise"):
        membership.permit(terms(1))
    with pytest.raises(ProtocolError, match="generation 4"):
        membership.permit(terms(4, NAMES[:3]))


def test_a_generation_that_was_taken_stays_whatever_is_offered(state: ExecutionState) -> None:
    group = Group.create(terms())
    state.join(group)
    state.join(group)
    with pytest.raises(ProtocolError, match="taken under another key"):
        state.join(Group.create(terms()))
    assert len(state.membership.roster(1)) == len(NAMES)


def test_an_execution_that_is_over_or_was_charged_is_not_begun_again(state: ExecutionState) -> None:
    state.begin()
    state.join(Group.create(terms()))
    state.begin()
    end_execution(state.home, state.folder)
    with pytest.raises(ReplayRefused, match="is over"):
        ExecutionState(state.home, "e1").begin()
    state.home.ledger.reserve("e2/train/1", [Release("gaussian", 5.0)], EVERYONE)
    with pytest.raises(ReplayRefused, match="is over"):
        ExecutionState(state.home, "e2").begin()


def test_ended_executions_go_and_running_ones_stay(state: ExecutionState) -> None:
    for number in range(KEPT_EXECUTIONS + 4):
        ended = ExecutionState(state.home, f"a{number}")
        ended.join(Group.create(replace(terms(), execution=f"a{number}")))
        ended.close(bytes(32), b"model")
        running = ExecutionState(state.home, f"b{number}")
        running.join(Group.create(replace(terms(), execution=f"b{number}")))
    left = {folder.name for folder in state.folder.parent.iterdir()}
    assert {name for name in left if name.startswith("b")} == {f"b{n}" for n in range(KEPT_EXECUTIONS + 4)}
    assert len([name for name in left if name.startswith("a")]) == KEPT_EXECUTIONS
    assert all(name in left or name in state.home.ended for name in (f"a{n}" for n in range(KEPT_EXECUTIONS + 4)))


def test_a_group_serves_one_purpose(state: ExecutionState) -> None:
    state.join(Group.create(terms()))
    attempt = Attempt(generation=1, cohort=NAMES)
    grant(state, require_encryption=False, require_masks=False)
    assert state.membership.statement("train", 1, attempt).purpose == "train"
    with pytest.raises(ProtocolError, match="the group is for train, not for evaluate"):
        state.membership.statement("evaluate", 1, attempt)
    ref = SumRef(round=1, generation=1, clients=NAMES)
    with pytest.raises(ProtocolError, match="the group is for train"):
        state.open_counts(ref, b"", "evaluate", 1)


def test_what_was_made_for_a_round_is_bound_to_its_group(state: ExecutionState) -> None:
    """Coefficients are levels and dithers of one group's layout: in another group they would be garbage that opens."""
    first, second = terms(), terms(2, NAMES[:3])
    holders = [Holder(Group.create(of), Identity(bytes([2]) * 64), "east") for of in (first, second, first)]
    made = np.arange(7, dtype=np.uint64)
    state.store("train-1", holders[0], made)
    kept = ExecutionState(state.home, "e1").stored("train-1", holders[0])
    assert kept is not None
    assert np.array_equal(kept, made)
    assert state.stored("train-1", holders[1]) is None, "another generation"
    assert state.stored("train-1", holders[2]) is None, "equal terms, another master"
    state.store("train-1", holders[1], made)
    assert state.stored("train-1", holders[0]) is None, "only the newest is kept"


def test_shared_noise_needs_encryption_masks_and_its_whole_cohort(tmp_path: Path, dataset: Path) -> None:
    homes = homes_for(configured(dataset), tmp_path)
    shares, attempt = NoiseShares(3.0, 1.0, 5, 1), Attempt(generation=1, cohort=NAMES)
    for number, (scheme, masks) in enumerate((("none", False), ("none", True), ("bfv", False))):
        state = ExecutionState(Home(homes["east"]), f"e{number}")
        state.join(Group.create(replace(terms(), scheme=scheme, masks=masks)))
        with pytest.raises(PlanInvalid, match="encryption and pairwise masks"):
            state.membership.agreed_noise(attempt, shares)
    state = ExecutionState(Home(homes["east"]), "e9")
    state.join(Group.create(replace(terms(), scheme="bfv", masks=True)))
    assert state.membership.agreed_noise(attempt, shares) == shares.text
    with pytest.raises(CohortTooSmall, match="divided among 6"):
        state.membership.agreed_noise(attempt, replace(shares, cohort=6))
    assert state.membership.agreed_noise(attempt, None) == ""


def test_names_that_the_owner_does_not_know_make_no_noise(state: ExecutionState) -> None:
    """2,000 invented names would divide everyone's noise away."""
    invented = tuple(f"made-up-{number}" for number in range(2000))
    state.join(Group.create(replace(terms(), scheme="bfv", masks=True)))
    shares = NoiseShares(3.0, 1.0, 2005, 1)
    with pytest.raises(CohortTooSmall, match="of those asked this client's owner knows 5"):
        state.membership.agreed_noise(Attempt(generation=1, cohort=(*NAMES, *invented)), shares)
    state.home.known_clients.meet(dict.fromkeys(invented, "met"))
    with pytest.raises(CohortTooSmall, match="knows 5, of whom 1 may collude"):
        state.membership.agreed_noise(Attempt(generation=1, cohort=(*NAMES, *invented)), shares)
    grant(state, colluders=2)
    with pytest.raises(CohortTooSmall, match="of whom 2 may collude"):
        state.membership.agreed_noise(Attempt(generation=1, cohort=NAMES), NoiseShares(3.0, 1.0, 5, 1))


def grant(state: ExecutionState, **changes: object) -> None:
    """Let the owner change the policy, for this process too."""
    Home.write_policy(state.home.root, state.home.policy.model_copy(update=changes))
    del state.home.policy


def keys_request(**changes: object) -> KeysRequest:
    keys = {name: one.hex() for name, one in terms().roster.items()}
    fields = {"execution": "e1", "purpose": "train", "generation": 1, "scheme": "bfv", "masks": True, "roster": keys}
    return KeysRequest.model_validate({**fields, "leader": "east", **changes})


@pytest.mark.parametrize(
    ("asked", "granted", "told"),
    [
        ({"masks": False}, {}, "demands pairwise masks under encryption"),
        ({"scheme": "none", "masks": True}, {}, "demands encrypted sums"),
        ({"scheme": "none", "masks": True}, {"require_encryption": False}, "demands pairwise masks under encryption"),
    ],
)
def test_an_owner_s_demands_hold_whatever_the_coordinator_chooses(
    state: ExecutionState, asked: dict[str, object], granted: dict[str, object], told: str
) -> None:
    grant(state, **granted)
    with pytest.raises(PlanInvalid, match=told):
        keyring.keys(state.home, keys_request(**asked), {})
    assert not state.folder.exists(), "who only asks leaves nothing behind"


def test_one_client_under_two_names_is_refused(state: ExecutionState) -> None:
    keys = {name: one.hex() for name, one in terms().roster.items()}
    request = keys_request(roster={**keys, "west": keys["south"]})
    with pytest.raises(ProtocolError, match="one client under two names"):
        keyring.keys(state.home, request, {})


def test_a_known_client_keeps_its_key_and_a_new_one_is_met_but_not_known(tmp_path: Path) -> None:
    known = KnownClients(tmp_path / "roster.json")
    roster = terms().roster
    fingerprints = {name: keys.fingerprint for name, keys in roster.items()}
    assert known.check(roster, known_only=False) == fingerprints
    known.meet(fingerprints)
    assert known.check(roster, known_only=False) == {}
    assert known.pinned(roster) == 0, "whom nobody vouched for does not count"
    with pytest.raises(ClientUnknown, match="centre, east, north, south, west"):
        known.check(roster, known_only=True)
    known.pin(fingerprints)
    assert known.check(roster, known_only=True) == {}
    assert known.pinned([*roster, "nobody"]) == len(roster)
    forged = {**roster, "north": Identity(bytes([9]) * 64).public}
    unsure = KnownClients(tmp_path / "unsure.json")
    unsure.meet(fingerprints)
    with pytest.raises(ClientUnknown, match="north"):
        unsure.check(forged, known_only=True)
    other = Identity(bytes([9]) * 64).public
    for known_only in (False, True):
        with pytest.raises(KeyMismatch, match="north shows the key") as caught:
            known.check({**roster, "north": other}, known_only=known_only)
        assert roster["north"].fingerprint in caught.value.cause
    known.meet({"north": other.fingerprint})
    assert known.entries()["north"].fingerprint == roster["north"].fingerprint
    known.remove("north")
    assert "north" not in known.entries()


def test_names_met_do_not_fill_a_disk(tmp_path: Path) -> None:
    known = KnownClients(tmp_path / "roster.json")
    known.meet({f"n{number}": "F" for number in range(50)}, most=20)
    known.meet({f"m{number}": "F" for number in range(50)}, most=20)
    assert len(known.entries()) == 20


def test_a_roster_of_an_earlier_version_is_only_met(tmp_path: Path) -> None:
    (tmp_path / "roster.json").write_text('{"north": "AAAA"}')
    assert KnownClients(tmp_path / "roster.json").entries()["north"].by == "met"
