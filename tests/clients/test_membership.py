"""What a client insists on in its group, whatever the coordinator says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients import keyring
from clients.execution import ExecutionState
from clients.home import Home
from clients.roster import KnownClients
from pipeline.protocol import Attempt, KeysRequest, SumRef
from privacy.errors import CohortTooSmall, KeyMismatch, PlanInvalid, ProtocolError, ReplayRefused
from privacy.group import Group, Terms
from privacy.keys import Identity
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
    return Terms("e1", generation, "none", False, {name: roster[name] for name in names})


def test_a_round_is_opened_once_also_after_a_restart(state: ExecutionState) -> None:
    statement = Statement("e1", "train", 1, NAMES)
    state.membership.note_opening(statement, b"sum")
    state.membership.note_opening(statement, b"sum")
    again = ExecutionState(state.home, "e1").membership
    with pytest.raises(ReplayRefused, match="opened once"):
        again.note_opening(replace(statement, cohort=NAMES[:4]), b"another sum")
    again.note_opening(replace(statement, round=2), b"another sum")
    with pytest.raises(ReplayRefused, match="opened once"):
        again.note_opening(statement, b"sum")
    again.note_opening(replace(statement, purpose="evaluate"), b"counts")
    assert len(list(state.folder.glob("opened-*"))) == 2, "what is kept does not grow with the rounds"


def test_sums_over_too_few_or_over_strangers_are_refused(state: ExecutionState) -> None:
    state.join(Group.create(terms()))
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
    membership.join(Group.create(terms(2, NAMES[:3])))
    with pytest.raises(ProtocolError, match="generation 1"):
        membership.permit(terms(1))


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


def test_shared_noise_needs_encryption_masks_and_its_whole_cohort(state: ExecutionState) -> None:
    shares, attempt = NoiseShares(3.0, 1.0, 5, 1), Attempt(generation=1, cohort=NAMES)
    for scheme, masks in (("none", False), ("none", True), ("bfv", False)):
        state.join(Group.create(replace(terms(), scheme=scheme, masks=masks)))
        with pytest.raises(PlanInvalid, match="encryption and pairwise masks"):
            state.membership.agreed_noise(attempt, shares)
    state.join(Group.create(replace(terms(), scheme="bfv", masks=True)))
    assert state.membership.agreed_noise(attempt, shares) == shares.text
    with pytest.raises(CohortTooSmall, match="divided among 6"):
        state.membership.agreed_noise(attempt, replace(shares, cohort=6))
    assert state.membership.agreed_noise(attempt, None) == ""


def test_an_owner_who_demands_masks_joins_no_group_without(state: ExecutionState) -> None:
    home = state.home
    Home.write_policy(home.root, home.policy.model_copy(update={"require_masks": True}))
    keys = {name: one.hex() for name, one in terms().roster.items()}
    request = KeysRequest(execution="e1", generation=1, scheme="bfv", masks=False, roster=keys, leader="east")
    with pytest.raises(PlanInvalid, match="demands pairwise masks"):
        keyring.keys(Home(home.root), request, {})


def test_one_client_under_two_names_is_refused(state: ExecutionState) -> None:
    keys = {name: one.hex() for name, one in terms().roster.items()}
    twice = {**keys, "west": keys["south"]}
    request = KeysRequest(execution="e1", generation=1, scheme="none", masks=False, roster=twice, leader="east")
    with pytest.raises(ProtocolError, match="one client under two names"):
        keyring.keys(state.home, request, {})


def test_a_known_client_keeps_its_key_and_an_unknown_one_is_written_down(tmp_path: Path) -> None:
    known = KnownClients(tmp_path / "roster.json")
    roster = terms().roster
    known.admit(roster)
    known.admit(dict(roster))
    assert known.fingerprints() == {name: keys.fingerprint for name, keys in roster.items()}
    other = Identity(bytes([9]) * 64).public
    with pytest.raises(KeyMismatch, match="north shows the key") as caught:
        known.admit({**roster, "north": other})
    assert roster["north"].fingerprint in caught.value.cause
    assert known.fingerprints()["north"] == roster["north"].fingerprint
