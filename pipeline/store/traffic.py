"""Traffic: which versions answer, and whose questions. One value in the registry, moved in one write."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from pipeline.kinds import Frozen

CHAMPION = "champion"
"""The alias of the version that answers where nothing else is said."""
CHALLENGER = "challenger"
"""The alias of a version that has to earn its place."""


class Traffic(Frozen):
    """Shares of the questions by version. A version is told by its number or by an alias, which may move."""

    shares: dict[str, float] = Field({CHAMPION: 1.0}, description="Share of the subjects by version; together 1.")
    shadow: tuple[str, ...] = Field((), description="Versions that are asked too, and whose answers nobody gets.")
    live: tuple[str, ...] = Field((), description="Versions that are held ready for whoever asks for them by name.")
    salt: str = Field("", description="Of the experiment: another salt, other subjects in each share.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.shares or any(not 0 <= share <= 1 for share in self.shares.values()):
            raise ValueError("expected a share from 0 to 1 for each version")
        if not math.isclose(sum(self.shares.values()), 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares are {sum(self.shares.values()):g} together, not 1")
        for version in (*self.shares, *self.shadow, *self.live):
            if version != CHAMPION and not (version.isdecimal() and version.isascii() and 0 < int(version) < 2**31):
                raise ValueError(f"{version!r} is no version: expected its number, or {CHAMPION}")
        return self

    @property
    def versions(self) -> tuple[str, ...]:
        """All that it names, each once."""
        return tuple(dict.fromkeys((*self.shares, *self.shadow, *self.live)))


def share_of(shares: Mapping[int, float], salt: str, subject: str) -> int:
    """The version that answers a subject: always the same one while the shares and the salt are.

    By a keyed hash, so that nobody without the salt can choose a subject for a version. The first of the shares takes
    what the others leave, from the far end: a share that grows keeps the subjects that it had.
    """
    first, *others = shares
    if not others:
        return first
    digest = hmac.new(salt.encode(), subject.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    place, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for version in others:
        reached += shares[version]
        if place < reached:
            return version
    return first
