"""How the clients of a run divide the noise of client-level privacy among them, and how its sums are sealed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.language.protocol import AskedShares
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import ClientPrivacy, Privacy
from privacy.budget import Line
from privacy.shares import NoiseShares


@dataclass(frozen=True)
class SumTerms:
    """What the coordinator asks of a sum; at record level, or without privacy, nothing."""

    shares: AskedShares | None
    terms: str
    encryption: EncryptionConfig

    @classmethod
    def of(cls, privacy: Privacy, lines: Iterable[Line], encryption: EncryptionConfig, min_cohort: int) -> SumTerms:
        """Noise for every sum of the run, with masks and a bound that never clips it. Raises PlanInvalid."""
        if not isinstance(privacy, ClientPrivacy):
            return cls(None, "", encryption)
        noise = NoiseShares.calibrated(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            releases=sum(line.rounds for line in lines),
            clipping_norm=privacy.clipping_norm,
            cohort=min_cohort,
            colluders=privacy.colluders,
        )
        shares = AskedShares(noise_multiplier=noise.noise_multiplier, cohort=min_cohort)
        return cls(shares, noise.text, encryption.model_copy(update={"masks": True, "bound": noise.bound}))
