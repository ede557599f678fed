"""The ciphers under the sums: `bfv` hides every vector from whoever adds; `none` sums in the clear, loudly.

Two roles. A `Cipher` beside the data turns blocks of integers below t into the body of an upload, and the body of a
total into blocks. A `Summation` at the coordinator adds bodies and is made from public parameters alone. Exact BFV and
not CKKS: a decrypted CKKS sum gives the key away to whoever added it (Li and Micciancio, ePrint 2020/1533).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from privacy import wire
from privacy.layout import DEGREE, DROPPED_BITS, MODULUS, SEED_BYTES, Layout
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
        seeds, sealed = [], []
        for block in blocks:
            coefficients, seed = self._secret.encrypt(block)
            seeds.append(seed)
            sealed.append(wire.packed(wire.rounded(coefficients), 6))
        return b"".join([*seeds, *sealed])

    def decrypt(self, body: memoryview, form: Format) -> Words:
        firsts, seconds = body[: 6 * DEGREE * form.blocks], body[6 * DEGREE * form.blocks :]
        blocks = np.empty((form.blocks, DEGREE), dtype=np.uint64)
        for number in range(form.blocks):
            sealed = firsts[6 * DEGREE * number : 6 * DEGREE * (number + 1)]
            expanded = seconds[7 * DEGREE * number : 7 * DEGREE * (number + 1)]
            first = wire.restored(wire.unpacked(sealed, 6, wire.LARGEST_SEALED)[0])
            blocks[number] = self._secret.decrypt(first, wire.unpacked(expanded, 7, MODULUS - 1)[0])
        return blocks


class BfvSum:
    """First polynomials are added in numpy; SEAL expands and adds what the seeds stand for."""

    def __init__(self, form: Format) -> None:
        from privacy.seal import Ring, SeedSum

        self._form = form
        self._first = np.zeros((form.blocks, DEGREE), dtype=np.uint64)
        self._second = SeedSum(Ring(form.layout.plain_modulus), form.blocks)

    def add(self, body: memoryview) -> None:
        border = SEED_BYTES * self._form.blocks
        first = wire.unpacked(body[border:], 6, wire.LARGEST_SEALED, self._form.blocks)
        self._second.add(bytes(body[:border]))
        self._first += first  # 2^48 each: 65,536 of them fit

    def total(self) -> bytes:
        firsts, seconds = [], []
        for block, second in zip(self._first, self._second.totals(), strict=True):
            exact = (block % np.uint64(MODULUS)) << np.uint64(DROPPED_BITS)
            firsts.append(wire.packed(wire.rounded(exact % np.uint64(MODULUS)), 6))
            seconds.append(wire.packed(second, 7))
        return b"".join([*firsts, *seconds])


class Plain:
    """No encryption: whoever adds reads everything."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def encrypt(self, blocks: Words) -> bytes:
        return wire.packed(blocks.reshape(-1), 8)

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
        return wire.packed(self._total.reshape(-1), 8)
