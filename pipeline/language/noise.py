"""How the clients of a run divide noise among them, and how its sums are sealed.

Whole clients are protected by noise that a cohort shares; records, where the owner of the run says so, in whatever is
one sum over all clients. Every client of a sum has to be told the same, or its share would be too small for the others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.language.lines import Lines
from pipeline.language.protocol import AskedShares
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import ClientPrivacy, Privacy
from privacy.budget import Line
from privacy.shares import NoiseShares

FINE = 4.0
"""Least deviation of a share, in the whole numbers that are summed: shares of so many levels add up to what one noise
of their sum would be, but for a difference of exp(-2 pi^2 16) (privacy.shares)."""
LEVELS = 256
"""Norm, in whole numbers, of what is summed with shared noise."""


def shares_noise(privacy: Privacy, lines: Iterable[Line], purpose: str) -> bool:
    """Whether the sums of `purpose` have noise that a cohort shares."""
    if privacy == "none" or isinstance(privacy, ClientPrivacy):
        return privacy != "none"
    return privacy.noise == "shared" and any(line.shared for line in lines if line.purpose == purpose)


def noise_follows(privacy: Privacy, lines: Iterable[Line], purpose: str) -> str:
    """What the noise of one record's sums follows from, the same at every client that was told the same."""
    if privacy == "none":
        return ""
    narrowed = Lines(lines=tuple(lines)).narrowed(purpose).model_dump_json()
    told = f"{privacy.unit} {privacy.epsilon!r} {privacy.delta!r} {purpose} {narrowed}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def levels_of(norm: float) -> int:
    """By what each count of a question is multiplied before it gets its share of the noise."""
    return max(1, math.ceil(LEVELS / norm))


@dataclass(frozen=True)
class SumTerms:
    """What the coordinator asks of the sums of a run."""

    privacy: Privacy
    lines: tuple[Line, ...]
    shares: AskedShares | None
    encryption: EncryptionConfig

    @classmethod
    def of(cls, privacy: Privacy, lines: Iterable[Line], encryption: EncryptionConfig, min_cohort: int) -> SumTerms:
        """Where noise is shared: of every sum of the run, with masks and, at client level, a bound that never clips it.
        Raises PlanInvalid."""
        lines = tuple(lines)
        if not isinstance(privacy, ClientPrivacy):
            if privacy == "none" or privacy.noise == "own":
                return cls(privacy, lines, None, encryption)
            return cls(privacy, lines, AskedShares(cohort=min_cohort), encryption.model_copy(update={"masks": True}))
        noise = NoiseShares.calibrated(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            releases=sum(line.rounds for line in lines),
            clipping_norm=privacy.clipping_norm,
            cohort=min_cohort,
            colluders=privacy.colluders,
        )
        shares = AskedShares(noise_multiplier=noise.noise_multiplier, cohort=min_cohort)
        return cls(privacy, lines, shares, encryption.model_copy(update={"masks": True, "bound": noise.bound}))

    def terms(self, purpose: str, norm: float) -> str:
        """What all clients of a sum of `purpose` must have agreed upon; empty: each has noise of its own. norm: of what
        a record changes in it, in the whole numbers that are summed."""
        privacy, shares = self.privacy, self.shares
        if shares is None or privacy == "none" or not shares_noise(privacy, self.lines, purpose):
            return ""
        if isinstance(privacy, ClientPrivacy):
            multiplier = shares.noise_multiplier or math.inf
            return NoiseShares(multiplier, privacy.clipping_norm, shares.cohort, privacy.colluders).text
        follows = noise_follows(privacy, self.lines, purpose)
        return NoiseShares(0.0, norm, shares.cohort, privacy.colluders, follows).text

    def levels(self, purpose: str, norm: float) -> int:
        """By what clients multiply their counts, where records have noise that is shared."""
        record = self.privacy != "none" and not isinstance(self.privacy, ClientPrivacy)
        return levels_of(norm) if record and shares_noise(self.privacy, self.lines, purpose) else 1
