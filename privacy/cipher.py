"""The ciphers under the sums: `bfv` hides every vector from whoever adds; `none` sums in the clear, loudly.

Two roles. A `Cipher` beside the data turns blocks of integers below t into the body of an upload, and the body of a
total into blocks. A `Summation` at the coordinator adds bodies and is made from public parameters alone. Exact BFV and
not CKKS: a decrypted CKKS sum gives the key away to whoever added it (Li and Micciancio, ePrint 2020/1533).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from privacy import wire
from privacy.layout import DEGREE, DROPPED_BITS, MODULUS, Layout
from privacy.stream import Words
from privacy.wire import Format, Scheme


class Cipher(Protocol):
    """The role beside the data."""

    def encrypt(self, blocks: Words) -> bytes:
        """The body of an upload from integers [n, N] below t."""

    def decrypt(self, body: memoryview, form: Format) -> Words:
        """The integers [n, N] below t in the body of a total. Raises SumRejected for a coefficient out of range."""


class Summation(Protocol):
    """The role of the coordinator."""

    def add(self, body: memoryview) -> None:
        """Add one upload's body. Raises SumRejected, the sum unchanged, for a coefficient out of range."""

    def total(self) -> bytes:
        """The body of the total."""


def new_key(scheme: Scheme, layout: Layout) -> bytes:
    """A fresh key; empty for `none`."""
    if scheme == "none":
        return b""
    from privacy.seal import Ring, SecretKey

    return SecretKey.generate(Ring(layout.plain_modulus))


def new_cipher(scheme: Scheme, layout: Layout, key: bytes) -> Cipher:
    """A holder's cipher. Raises SumRejected when `key` is not one."""
    return Bfv(layout, key) if scheme == "bfv" else Plain(layout)


def new_summation(form: Format) -> Summation:
    """An adder's sum, without any key."""
    return BfvSum(form) if form.scheme == "bfv" else PlainSum(form)


class Bfv:
    """Encryption under the group's key."""

    def __init__(self, layout: Layout, key: bytes) -> None:
        from privacy.seal import Ring, SecretKey

        self._secret = SecretKey(Ring(layout.plain_modulus), key)

    def encrypt(self, blocks: Words) -> bytes:
        seeds = []
        sealed = np.empty_like(blocks)
        for number, block in enumerate(blocks):
            sealed[number], seed = self._secret.encrypt(block)
            seeds.append(seed)
        return b"".join(seeds) + wire.packed(wire.rounded(sealed), 6)

    def decrypt(self, body: memoryview, form: Format) -> Words:
        border = 6 * DEGREE * form.blocks
        first = wire.restored(wire.unpacked(body[:border], 6, wire.LARGEST_SEALED, form.blocks))
        second = wire.unpacked(body[border:], 7, MODULUS - 1, form.blocks)
        return np.stack([self._secret.decrypt(*pair) for pair in zip(first, second, strict=True)])


class BfvSum:
    """First polynomials are added in numpy; SEAL expands and adds what the seeds stand for."""

    def __init__(self, form: Format) -> None:
        from privacy.seal import Ring, SeedSum

        self._form = form
        self._first = np.zeros((form.blocks, DEGREE), dtype=np.uint64)
        self._second = SeedSum(Ring(form.layout.plain_modulus), form.blocks)

    def add(self, body: memoryview) -> None:
        border = wire.SEED_BYTES * self._form.blocks
        first = wire.unpacked(body[border:], 6, wire.LARGEST_SEALED, self._form.blocks)
        self._second.add(bytes(body[:border]))
        self._first += first  # 2^48 each: 65,536 of them fit

    def total(self) -> bytes:
        exact = (self._first % np.uint64(MODULUS)) << np.uint64(DROPPED_BITS)
        first = wire.rounded(exact % np.uint64(MODULUS))
        return wire.packed(first, 6) + wire.packed(self._second.total(), 7)


class Plain:
    """No encryption: whoever adds reads everything."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def encrypt(self, blocks: Words) -> bytes:
        return wire.packed(blocks, 8)

    def decrypt(self, body: memoryview, form: Format) -> Words:
        return wire.unpacked(body, 8, self._layout.plain_modulus - 1, form.blocks)


class PlainSum:
    """Adds what `Plain` makes."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._total = np.zeros((form.blocks, DEGREE), dtype=np.uint64)

    def add(self, body: memoryview) -> None:
        largest = self._form.layout.plain_modulus - 1
        self._total = (self._total + wire.unpacked(body, 8, largest, self._form.blocks)) & np.uint64(largest)

    def total(self) -> bytes:
        return wire.packed(self._total, 8)
