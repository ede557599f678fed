"""Sums are exact, and anything that is not the unaltered sum of the named clients does not open."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import wire
from privacy.cipher import new_cipher, new_summation
from privacy.errors import PlanInvalid, SumRejected
from privacy.group import Group, Terms
from privacy.keys import Identity
from privacy.layout import DATA, DEGREE, MODULUS, SEED_BYTES, Layout
from privacy.statement import Statement
from privacy.stream import Words
from privacy.sums import Adder, Holder
from privacy.wire import SIGNATURE_BYTES, Format, signed_text

NAMES = ("a", "b", "c")
STATEMENT = Statement("e1", "train", 3, NAMES)
COUNT = DATA + 5


def identity(number: int) -> Identity:
    return Identity(bytes([number % 250 + 1, number // 250]) * 32)


@dataclass(frozen=True)
class Party:
    """Three clients of one group, and what the coordinator does with their uploads."""

    group: Group
    holders: dict[str, Holder]

    def seal(self, name: str, values: Words, statement: Statement = STATEMENT) -> bytes:
        return self.holders[name].seal(values, statement)

    def adder(self, count: int = COUNT, statement: Statement = STATEMENT) -> Adder:
        return Adder(self.group.terms.scheme, self.group.terms.layout, statement, count)

    def total(self, uploads: dict[str, bytes], count: int = COUNT, statement: Statement = STATEMENT) -> bytes:
        adder = self.adder(count, statement)
        for name, upload in uploads.items():
            adder.add(upload, name, self.group.terms.roster[name])
        return adder.total()

    def open(self, total: bytes, clients: Sequence[str] = NAMES, count: int = COUNT) -> Words:
        return self.holders["a"].open(total, STATEMENT, clients, count)


def party(scheme: wire.Scheme, masks: bool) -> Party:
    identities = {name: identity(number) for number, name in enumerate(NAMES)}
    terms = Terms("e1", "train", 1, scheme, masks, {name: one.public for name, one in identities.items()})
    group = Group.create(terms)
    return Party(group, {name: Holder(group, one, name) for name, one in identities.items()})


@pytest.fixture(scope="module", params=["bfv", "bfv masked", "none"])
def three(request: pytest.FixtureRequest) -> Party:
    scheme, _, masks = request.param.partition(" ")
    return party(scheme, bool(masks))


@pytest.fixture(scope="module")
def masked() -> Party:
    return party("bfv", True)


@pytest.fixture(scope="module")
def sealed_once(masked: Party) -> dict[str, bytes]:
    return uploads(masked)


def values(seed: int, count: int = COUNT) -> Words:
    return np.random.default_rng(seed).integers(0, 2**38, count).astype(np.uint64)


def uploads(party: Party, count: int = COUNT) -> dict[str, bytes]:
    return {name: party.seal(name, values(seed, count)) for seed, name in enumerate(NAMES)}


EXPECTED = sum(values(seed) for seed in range(3))


def test_the_sum_is_exact_over_block_borders(three: Party) -> None:
    assert np.array_equal(three.open(three.total(uploads(three))), EXPECTED)


def test_lengths_are_those_announced(three: Party) -> None:
    form = Format(three.group.terms.scheme, three.group.terms.layout, 2)
    sealed = uploads(three)
    assert {len(upload) for upload in sealed.values()} == {form.upload_bytes}
    assert len(three.total(sealed)) == form.total_bytes


@pytest.mark.parametrize(
    ("clients", "statement"),
    [
        (("a", "b"), STATEMENT),
        (("a", "b", "d"), STATEMENT),
        (("a", "b", "c", "c"), STATEMENT),
        (NAMES, replace(STATEMENT, round=4)),
        (NAMES, replace(STATEMENT, execution="e2")),
        (NAMES, replace(STATEMENT, purpose="evaluate")),
        (NAMES, replace(STATEMENT, cohort=("a", "b", "c", "d"))),
        (NAMES, replace(STATEMENT, terms="1.0/1.0/3")),
    ],
)
def test_another_claim_does_not_open(three: Party, clients: tuple[str, ...], statement: Statement) -> None:
    total = three.total(uploads(three))
    with pytest.raises(SumRejected):
        three.holders["a"].open(total, statement, clients, COUNT)


def unchecked(three: Party, uploads: Iterable[bytes]) -> bytes:
    """The total of a coordinator that adds whatever it likes: no check of signature, client or repetition."""
    form = Format("bfv", three.group.terms.layout, 2)
    summation = new_summation(form)
    for upload in uploads:
        summation.add(form.body("upload", upload))
    return form.header("total") + summation.total()


def swap_blocks(upload: bytes) -> bytes:
    """Both blocks of an upload of two, exchanged, seeds and coefficients."""
    head = len(upload) - SIGNATURE_BYTES - 2 * (SEED_BYTES + 6 * DEGREE)
    start = head + 2 * SEED_BYTES
    first, second = upload[head : head + 64], upload[head + 64 : start]
    left, right = upload[start : start + 6 * DEGREE], upload[start + 6 * DEGREE : -SIGNATURE_BYTES]
    return upload[:head] + second + first + right + left + upload[-SIGNATURE_BYTES:]


@pytest.mark.parametrize("masks", [False, True])
def test_a_coordinator_that_drops_doubles_replays_or_swaps_is_found_out(masks: bool) -> None:
    three = party("bfv", masks)
    a, b, c = uploads(three).values()
    old = three.seal("c", values(2), replace(STATEMENT, round=2))
    for wrong in ((a, b), (a,), (a, b, c, c), (a, b, b), (a, b, old), (a, b, swap_blocks(c))):
        with pytest.raises(SumRejected, match="not that of the named clients"):
            three.open(unchecked(three, wrong))


def test_one_block_replaced_by_the_same_client_s_block_of_another_round_does_not_open(masked: Party) -> None:
    a, b, c = uploads(masked).values()
    old = masked.seal("c", values(2), replace(STATEMENT, round=2))
    head = len(c) - SIGNATURE_BYTES - 2 * (SEED_BYTES + 6 * DEGREE)
    mixed = bytearray(c)
    mixed[head : head + 64] = old[head : head + 64]
    mixed[head + 128 : head + 128 + 6 * DEGREE] = old[head + 128 : head + 128 + 6 * DEGREE]
    with pytest.raises(SumRejected):
        masked.open(unchecked(masked, (a, b, bytes(mixed))))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_an_altered_total_never_opens_as_another_sum(
    masked: Party, sealed_once: dict[str, bytes], data: st.DataObject
) -> None:
    """Noise may hide a change of the lowest bits; whatever opens is the true sum."""
    total = bytearray(masked.total(sealed_once))
    changes = st.lists(st.tuples(st.integers(0, len(total) - 1), st.integers(1, 255)), min_size=1, max_size=4)
    for where, flip in data.draw(changes):
        total[where] ^= flip
    try:
        opened = masked.open(bytes(total))
    except SumRejected:
        return
    assert np.array_equal(opened, EXPECTED)


def test_a_number_added_by_the_coordinator_is_found_out(masked: Party, sealed_once: dict[str, bytes]) -> None:
    """Adding a plaintext needs no key. It fits the lanes, it keeps the tags of the clients, and it is noticed."""
    total = masked.total(sealed_once)
    step = (MODULUS - 1) // masked.group.terms.layout.plain_modulus
    head = len(total) - 2 * 13 * DEGREE
    for where, delta in ((0, 1), (7, 2**39), (DATA, 1)):
        at = head + 6 * where
        coefficient = int.from_bytes(total[at : at + 6], "little") << 3
        moved = ((coefficient + delta * step) % MODULUS + 4) >> 3
        with pytest.raises(SumRejected, match="unaltered"):
            masked.open(total[:at] + moved.to_bytes(6, "little") + total[at + 6 :])


def test_masks_hide_an_upload_from_whoever_holds_the_group_s_key() -> None:
    hidden, open_ = party("bfv", True), party("bfv", False)
    small = np.arange(COUNT, dtype=np.uint64)
    for three, readable in ((hidden, False), (open_, True)):
        total = unchecked(three, [three.seal("a", small)])
        form = Format("bfv", three.group.terms.layout, 2)
        reader = new_cipher("bfv", three.group.terms.layout, three.group.key)
        blocks = reader.decrypt(form.body("total", total), form)
        assert np.array_equal(blocks[:, :DATA].reshape(-1)[:COUNT], small) is readable
        with pytest.raises(SumRejected):
            three.holders["b"].open(total, STATEMENT, ["b"], COUNT)


def test_after_a_client_vanished_the_others_seal_again_for_each_other(masked: Party) -> None:
    smaller = replace(STATEMENT, cohort=("a", "b"))
    again = {name: masked.seal(name, values(seed), smaller) for seed, name in enumerate(("a", "b"))}
    opened = masked.holders["b"].open(masked.total(again, statement=smaller), smaller, ("a", "b"), COUNT)
    assert np.array_equal(opened, values(0) + values(1))
    first = masked.seal("a", values(0))
    with pytest.raises(SumRejected, match="not signed by a for this run, round and attempt"):
        masked.adder(statement=smaller).add(first, "a", masked.group.terms.roster["a"])


def test_a_client_seals_only_for_cohorts_of_its_group(masked: Party) -> None:
    for cohort in (("b", "c"), ("a", "b", "stranger"), ("a", "b", "b")):
        with pytest.raises(SumRejected, match="cohort"):
            masked.seal("a", values(0), replace(STATEMENT, cohort=cohort))


def test_hostile_uploads_are_named_and_leave_the_sum_as_it_was(three: Party) -> None:
    good = uploads(three)
    keys = three.group.terms.roster
    adder = three.adder()
    with pytest.raises(SumRejected, match="nothing"):
        adder.total()
    adder.add(good["a"], "a", keys["a"])
    flipped = bytearray(good["b"])
    flipped[len(flipped) // 2] ^= 4
    bad = {
        "an upload of": (b"", good["b"][:-1], good["b"] + b"\0", three.seal("b", values(1, DATA))),
        "header": (b"X" + good["b"][1:], bytes(len(good["b"]))),
        "not signed": (
            bytes(flipped),
            good["c"],
            good["b"][:-64] + bytes(64),
            three.seal("b", values(1), replace(STATEMENT, round=2)),
            three.seal("b", values(1), replace(STATEMENT, execution="e2")),
        ),
    }
    for message, contents in bad.items():
        for content in contents:
            with pytest.raises(SumRejected, match=message):
                adder.add(content, "b", keys["b"])
    with pytest.raises(SumRejected, match="already"):
        adder.add(good["a"], "a", keys["a"])
    with pytest.raises(SumRejected, match="not asked"):
        adder.add(good["a"], "stranger", keys["a"])
    adder.add(good["c"], "c", keys["c"])
    adder.add(good["b"], "b", keys["b"])
    assert np.array_equal(three.open(adder.total()), EXPECTED)


def test_a_coefficient_out_of_range_is_refused_before_it_is_added(masked: Party, sealed_once: dict[str, bytes]) -> None:
    good = bytearray(uploads(masked)["b"][:-SIGNATURE_BYTES])
    good[-6:] = b"\xff" * 6
    signature = identity(1).sign(signed_text(STATEMENT, "b", bytes(good)))
    with pytest.raises(SumRejected, match="out of range"):
        masked.adder().add(bytes(good) + signature, "b", masked.group.terms.roster["b"])
    total = bytearray(masked.total(sealed_once))
    total[-7:] = b"\xff" * 7
    with pytest.raises(SumRejected, match="out of range"):
        masked.open(bytes(total))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["raw", "header", "length"]))
def test_arbitrary_bytes_never_get_past_the_frame(masked: Party, junk: bytes, kind: str) -> None:
    form = Format("bfv", masked.group.terms.layout, 2)
    content = junk if kind == "raw" else form.header("upload") + junk
    if kind == "length":
        content = content.ljust(form.upload_bytes, b"\x5e")[: form.upload_bytes]
    with pytest.raises(SumRejected):
        masked.adder().add(content, "a", masked.group.terms.roster["a"])
    with pytest.raises(SumRejected):
        masked.open(content)


def test_another_group_s_key_does_not_open(three: Party) -> None:
    total = three.total(uploads(three))
    stranger = Group(three.group.terms, bytes(32), Group.create(three.group.terms).key)
    with pytest.raises(SumRejected):
        Holder(stranger, identity(0), "a").open(total, STATEMENT, NAMES, COUNT)


def test_the_adder_holds_nothing_that_decrypts(masked: Party) -> None:
    import tenseal.sealapi as seal

    adder = masked.adder()
    adder.add(uploads(masked)["a"], "a", masked.group.terms.roster["a"])
    secrets = (seal.SecretKey, seal.Decryptor, seal.KeyGenerator, seal.Encryptor, Identity, Group, Holder)
    seen: set[int] = set()
    waiting: list[object] = [adder]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type) or type(found).__name__ in ("module", "function"):
            continue
        seen.add(id(found))
        assert not isinstance(found, secrets)
        waiting += gc.get_referents(found)
    assert len(seen) > 10


def test_counts_are_exact_negative_ones_too(three: Party) -> None:
    counts = np.array([0, -5, 7, 2**33, -(2**33)], dtype=np.int64)
    sealed = {name: three.seal(name, three.holders[name].integers(counts)) for name in NAMES}
    opened = three.holders["c"].open_integers(three.total(sealed, 5), STATEMENT, NAMES, 5)
    assert np.array_equal(opened, 3 * counts)
    with pytest.raises(PlanInvalid, match="count"):
        three.holders["a"].integers(np.array([three.group.terms.layout.largest_integer + 1]))


def test_two_thousand_clients_are_summed_exactly() -> None:
    names = tuple(f"c{number:04}" for number in range(2000))
    identities = {name: identity(number) for number, name in enumerate(names)}
    terms = Terms("e1", "train", 1, "bfv", False, {name: one.public for name, one in identities.items()})
    group = Group.create(terms)
    statement = Statement("e1", "train", 1, names)
    adder = Adder("bfv", terms.layout, statement, terms.layout.coefficients(9))
    exact = np.random.default_rng(0).uniform(-1, 1, (2000, 9))
    for name, row in zip(names, exact, strict=True):
        holder = Holder(group, identities[name], name)
        adder.add(holder.seal(holder.quantised(row, statement, 1.0), statement), name, terms.roster[name])
    total = holder.open_values(adder.total(), statement, names, 9, 1.0)
    assert np.abs(total - exact.sum(axis=0)).max() <= 2000 * 1.1 / (terms.layout.levels - 1)


def test_cohorts_beyond_every_layout_are_refused() -> None:
    with pytest.raises(PlanInvalid, match="exact"):
        Layout.for_cohort(10_000_000)
