"""What a sealed vector is for, and the keys that follow from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from privacy.stream import derive


def basis_of(content: bytes) -> str:
    """Stands for a model that all clients of a sum must have: updates of two models do not add up. Hex."""
    return hashlib.sha256(b"sottovoce basis\0" + content).hexdigest()[:32]


def next_basis(basis: str, round: int, total: bytes) -> str:
    """For the model that `basis` stands for, after the sealed sum of a round was applied to it."""
    return basis_of(bytes.fromhex(basis) + round.to_bytes(8, "big") + hashlib.sha256(total).digest())


def agreed(basis: str, noise: str) -> str:
    """The terms of a sum: the model it starts from, and how its noise is shared."""
    return f"{basis} {noise}".strip()


@dataclass(frozen=True)
class Statement:
    """One attempt at one sum: two sums with different statements cannot be exchanged for one another.

    cohort: the clients that were asked together. An attempt that is repeated after a client vanished has another
    cohort, and so other tags and other masks. terms: what else all of them must have agreed upon.
    """

    execution: str
    purpose: str
    round: int
    cohort: tuple[str, ...]
    terms: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the statement, hex."""
        content = [self.execution, self.purpose, self.round, sorted(self.cohort), self.terms]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def key(self, master: bytes, use: str, client: str = "") -> bytes:
        """A key of this attempt, for one use and, if named, one client."""
        return derive(master, use, self.digest, client)

    def dither_key(self, master: bytes, client: str) -> bytes:
        """Key of a client's dithers. Not the attempt's: a repeated upload carries the same integers."""
        return derive(master, "dither", self.execution, self.purpose, str(self.round), client)
