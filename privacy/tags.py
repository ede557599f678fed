"""Tags: one coefficient a block by which the members of a group tell whose sum they opened, and that it is unaltered.

A tag is a number only members can compute, from the statement, the client and the block, plus a checksum of the
block's data, linear modulo a prime under a key of the attempt (Carter and Wegman 1979). The tags of a sum must be
those of the named clients, once each, plus the checksum of the summed data. Whoever adds without the master cannot
drop, double, swap, replay or alter a block unnoticed: a forgery passes with probability one in `check_prime` a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy.errors import SumRejected
from privacy.layout import DATA, Layout
from privacy.statement import Statement
from privacy.stream import Words, words

_LOW_BITS = 20


class Tagger:
    """Makes and checks the tags of one attempt."""

    def __init__(self, master: bytes, statement: Statement, layout: Layout) -> None:
        self._master, self._statement, self._layout = master, statement, layout

    def tags(self, data: Words, client: str) -> Words:
        """The tags [blocks] of one client's data [blocks, DATA]."""
        return (self._numbers(client, len(data)) + self._checksums(data)) & self._mask

    def check(self, data: Words, tags: Words, clients: Sequence[str]) -> None:
        """Raise SumRejected unless `data` and `tags` are the sums over exactly `clients`."""
        if len(set(clients)) != len(clients):
            raise SumRejected("a client is named twice in the sum", travels=True)
        left = tags.copy()
        for client in clients:
            left -= self._numbers(client, len(data))
        left &= self._mask
        prime = np.uint64(self._layout.check_prime)
        # A sum of checksums is below prime x clients; anything above is not one.
        if left.max(initial=0) >= prime * np.uint64(max(1, len(clients))) or not np.array_equal(
            left % prime, self._checksums(data)
        ):
            raise SumRejected("the sum is not that of the named clients, once each and unaltered", travels=True)

    @property
    def _mask(self) -> np.uint64:
        return np.uint64(self._layout.plain_modulus - 1)

    def _numbers(self, client: str, blocks: int) -> Words:
        return words(self._statement.key(self._master, "tag", client), blocks) & self._mask

    def _checksums(self, data: Words) -> Words:
        """Sum over the block of coefficient times a secret factor below 2^31, modulo the prime.

        A coefficient is split so that no product and no sum of 2,047 products passes 2^63.
        """
        prime = np.uint64(self._layout.check_prime)
        size = len(data) * DATA
        keyed = words(self._statement.key(self._master, "checksum"), -(-size // 2)).view(np.uint32)[:size]
        factors = (keyed >> np.uint32(1)).astype(np.uint64).reshape(len(data), DATA)
        low = np.einsum("ij,ij->i", factors, data & np.uint64(2**_LOW_BITS - 1))
        high = np.einsum("ij,ij->i", factors, data >> np.uint64(_LOW_BITS))
        total: Words = (low + (high % prime) * np.uint64(2**_LOW_BITS)) % prime
        return total
