"""Group keys reach every member and nobody else."""

from dataclasses import replace

import pytest

from privacy.errors import PlanInvalid, SumRejected
from privacy.group import Group, Offer, Terms
from privacy.keys import Identity, PublicKeys

IDENTITIES = {name: Identity(bytes([number]) * 64) for number, name in enumerate("abc", start=1)}
TERMS = Terms("e1", "train", 1, "bfv", True, {name: identity.public for name, identity in IDENTITIES.items()})


@pytest.fixture(scope="module")
def group() -> Group:
    return Group.create(TERMS)


def offer(group: Group, member: str, leader: str = "a") -> Offer:
    identity = IDENTITIES[leader]
    wrapped = group.wrapped(identity, group.terms.roster[member])
    return Offer(identity.sign(group.terms.digest), wrapped, group.sealed_key())


def test_every_member_gets_the_same_group(group: Group) -> None:
    assert all(Group.join(TERMS, IDENTITIES[name], "a", offer(group, name)) == group for name in "abc")
    assert len(offer(group, "b").wrapped) == 80
    assert Group.create(TERMS).master != group.master


@pytest.mark.parametrize("changed", ["execution", "generation", "scheme", "masks", "roster", "leader"])
def test_other_terms_than_the_leader_signed_are_refused(group: Group, changed: str) -> None:
    swapped = {**TERMS.roster, "c": Identity(bytes([9]) * 64).public}
    others: dict[str, Terms] = {
        "execution": replace(TERMS, execution="e2"),
        "generation": replace(TERMS, generation=2),
        "scheme": replace(TERMS, scheme="none"),
        "masks": replace(TERMS, masks=False),
        "roster": replace(TERMS, roster=swapped),
    }
    leader = "b" if changed == "leader" else "a"
    with pytest.raises(SumRejected, match="not signed by its leader"):
        Group.join(others.get(changed, TERMS), IDENTITIES["b"], leader, offer(group, "b"))


def test_what_was_wrapped_for_another_or_by_another_does_not_open(group: Group) -> None:
    good = offer(group, "b")
    for bad in (
        offer(group, "c"),
        replace(good, wrapped=offer(group, "b", "c").wrapped),
        replace(good, wrapped=good.wrapped[:-1]),
        replace(good, wrapped=bytes(80)),
        replace(good, sealed_key=good.sealed_key[:-1] + b"\0"),
        replace(good, sealed_key=Group.create(TERMS).sealed_key()),
    ):
        with pytest.raises(SumRejected):
            Group.join(TERMS, IDENTITIES["b"], "a", bad)


def test_a_key_of_low_order_is_refused(group: Group) -> None:
    with pytest.raises(SumRejected, match="X25519"):
        group.wrapped(IDENTITIES["a"], PublicKeys(bytes(32), bytes(32)))


def test_a_roster_too_large_for_exact_sums_is_refused() -> None:
    roster = dict.fromkeys(map(str, range(10)), IDENTITIES["a"].public)
    assert replace(TERMS, roster=roster).layout.cohort == 10
    assert Terms("e", "train", 1, "bfv", False, roster).digest != TERMS.digest
    with pytest.raises(PlanInvalid):
        type(TERMS.layout).for_cohort(10**7)
