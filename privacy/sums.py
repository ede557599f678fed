"""Sums of integer vectors that the one who adds cannot read, and that those who open can verify.

A `Holder` beside the data seals its vector and opens a sum; an `Adder` at the coordinator adds sealed vectors as they
arrive. What the holder does to a vector, in this order: cut into blocks, tag, mask, encrypt, frame, sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy.cipher import new_cipher, new_summation
from privacy.errors import PlanInvalid, SumRejected
from privacy.group import Group
from privacy.keys import Identity, PublicKeys
from privacy.layout import DATA, DEGREE, Layout
from privacy.masks import mask
from privacy.noise import Floats, SecureNoise
from privacy.quantise import Quantiser
from privacy.shares import NoiseShares, clipped
from privacy.statement import Statement
from privacy.stream import Words, derive
from privacy.tags import Tagger
from privacy.wire import SIGNATURE_BYTES, Format, Scheme, signed_text


class Holder:
    """One member of a group. Belongs to one process and one thread."""

    def __init__(self, group: Group, identity: Identity, name: str) -> None:
        self._group, self._identity, self._name = group, identity, name
        self._layout = group.terms.layout
        self._cipher = new_cipher(group.terms.scheme, self._layout, group.key)

    @property
    def mark(self) -> str:
        """Of this very group, in a file name: coefficients made for one group mean nothing in another."""
        return derive(self._group.master, "mark", self._group.terms.digest.hex())[:16].hex()

    def salt(self, what: str) -> bytes:
        """32 bytes that all members put before a result when they vouch for its digest: who adds could otherwise try
        what the result of few counts may be until it meets the digest."""
        return derive(self._group.master, "salt", what)

    @property
    def largest(self) -> int:
        """Whole numbers in a vector lie in [-largest, largest]."""
        return self._layout.largest_integer

    def permit(self, statement: Statement) -> None:
        """Raise SumRejected unless the cohort is this client and other members, once each."""
        cohort = set(statement.cohort)
        members = set(self._group.terms.roster)
        if self._name not in cohort or not cohort <= members or len(cohort) != len(statement.cohort):
            raise SumRejected(
                "the cohort of the sum is not this client and other members of its group, once each", travels=True
            )

    # -- coefficients ------------------------------------------------------------------------------------------------
    def seal(self, coefficients: Words, statement: Statement) -> bytes:
        """An upload of integers below t. Raises SumRejected unless the cohort is this client and other members."""
        self.permit(statement)
        terms = self._group.terms
        form = self._form(len(coefficients))
        blocks = np.zeros((form.blocks, DEGREE), dtype=np.uint64)
        data = np.zeros(form.blocks * DATA, dtype=np.uint64)
        data[: len(coefficients)] = coefficients
        blocks[:, :DATA] = data.reshape(form.blocks, DATA)
        blocks[:, DATA] = self._tagger(statement).tags(blocks[:, :DATA], self._name)
        if terms.masks:
            mask(blocks, self._identity, self._name, terms.roster, statement)
            blocks &= np.uint64(self._layout.plain_modulus - 1)
        unsigned = form.header("upload") + self._cipher.encrypt(blocks)
        return unsigned + self._identity.sign(signed_text(statement, self._name, unsigned))

    def open(self, total: bytes, statement: Statement, clients: Sequence[str], count: int) -> Words:
        """The exact sum of the `count` coefficients of exactly `clients`. Raises SumRejected for anything else."""
        form = self._form(count)
        blocks = self._cipher.decrypt(form.body("total", total), form)
        self._tagger(statement).check(blocks[:, :DATA], blocks[:, DATA], clients)
        summed: Words = blocks[:, :DATA].reshape(-1)[:count]
        return summed

    # -- what the coefficients stand for -----------------------------------------------------------------------------
    def quantised(self, values: Floats, statement: Statement, bound: float) -> Words:
        """Real values as coefficients. Raises PlanInvalid if one is not finite."""
        dither = statement.dither_key(self._group.master, self._name)
        return Quantiser(bound, self._layout).encode(values, dither)

    def noised(self, update: Floats, statement: Statement, shares: NoiseShares, source: SecureNoise) -> Words:
        """`update` clipped to the shares' norm, with this client's share of the noise, and a weight of one behind it.

        Rounding counts towards the norm, and the noise is a whole number of levels: the sensitivity of the sum holds
        exactly. Raises PlanInvalid.
        """
        return noised_share(update, shares, self._layout, statement.dither_key(self._group.master, self._name), source)

    def open_values(
        self, total: bytes, statement: Statement, clients: Sequence[str], count: int, bound: float
    ) -> Floats:
        """The sum of the `count` real values of exactly `clients`. Raises SumRejected for anything else."""
        summed = self.open(total, statement, clients, self._layout.coefficients(count))
        dithers = (statement.dither_key(self._group.master, client) for client in clients)
        return Quantiser(bound, self._layout).decode_sum(summed, dithers, count)

    def integers(self, values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Words:
        """Whole numbers, negative ones too, as coefficients: no quantisation. Raises PlanInvalid out of range."""
        largest = self._layout.largest_integer
        if np.abs(values).max(initial=0) > largest:
            raise PlanInvalid(f"a count is not within +-{largest}", travels=True)
        return (values + largest).astype(np.uint64)

    def open_integers(
        self, total: bytes, statement: Statement, clients: Sequence[str], count: int
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The exact sum of the `count` integers of exactly `clients`. Raises SumRejected for anything else."""
        summed = self.open(total, statement, clients, count)
        return summed.astype(np.int64) - len(clients) * self._layout.largest_integer

    def _form(self, count: int) -> Format:
        return Format(self._group.terms.scheme, self._layout, Layout.blocks(count))

    def _tagger(self, statement: Statement) -> Tagger:
        return Tagger(self._group.master, statement, self._layout)


class Adder:
    """The coordinator's side of one attempt. Made from public parameters alone: there is no key in this object."""

    def __init__(self, scheme: Scheme, layout: Layout, statement: Statement, count: int) -> None:
        """count: coefficients of each vector."""
        self._form = Format(scheme, layout, Layout.blocks(count))
        self._statement = statement
        self._sum = new_summation(self._form)
        self.clients: list[str] = []

    def add(self, upload: bytes, client: str, keys: PublicKeys) -> None:
        """Add the upload of one client of the cohort.

        Raises SumRejected, the sum unchanged, unless it has exactly the right form, is signed by the client for this
        statement, is its first, and every coefficient is in range. Nothing is parsed before that is known.
        """
        if client in self.clients or client not in self._statement.cohort:
            raise SumRejected(f"{client} is in the sum already, or was not asked", travels=True)
        body = self._form.body("upload", upload)
        unsigned = upload[:-SIGNATURE_BYTES]
        if not keys.verify(upload[-SIGNATURE_BYTES:], signed_text(self._statement, client, unsigned)):
            raise SumRejected(
                f"the upload is not signed by {client} for this run, round and attempt: it was altered or is another's",
                travels=True,
            )
        self._sum.add(body)
        self.clients.append(client)

    def total(self) -> bytes:
        """The sealed sum. Raises SumRejected when nothing was added."""
        if not self.clients:
            raise SumRejected("nothing was added")
        return self._form.header("total") + self._sum.total()


def noised_share(update: Floats, shares: NoiseShares, layout: Layout, dither: bytes, source: SecureNoise) -> Words:
    """What `Holder.noised` says of an update. Raises PlanInvalid."""
    quantiser = Quantiser(shares.bound, layout)
    kept = quantiser.within(clipped(update, shares.clipping_norm), dither, shares.clipping_norm)
    noise = source.discrete_gaussian(shares.deviation / quantiser.resolution, len(update))
    return quantiser.encode(np.append(kept, shares.bound), dither, np.append(noise, 0))
