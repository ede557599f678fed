"""Noise that no client adds alone: each adds a share, and under encryption only the sum is ever seen.

A sum over clients is protected by the noise of all of them together, so each may add little. It is sized for the
smallest honest cohort: with the shares of fewer than `honest` clients that others cannot subtract, the promise would
be broken, and no client takes part (planned for half as many drop-outs, an epsilon of 8 is really 12.3). Shares are
discrete Gaussians on the levels of the quantiser. Their sum is as good as one: it differs from a discrete Gaussian by
less than exp(-2 pi^2 s^2) for shares of s levels, and s is at least four (Kairouz, Liu and Steinke 2021,
arXiv 2102.06387, theorem 12).

>>> shares = NoiseShares(noise_multiplier=6.0, clipping_norm=1.0, cohort=10, colluders=1)
>>> shares.deviation
2.0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.accounting import calibrate
from privacy.errors import PlanInvalid
from privacy.noise import Floats

TAIL = 10.0
"""Deviations between the clipping norm and the bound of a coordinate: noise passes it with probability 1e-23."""


@dataclass(frozen=True)
class NoiseShares:
    """noise_multiplier: deviation of the honest clients' noise together, over the clipping norm of one client.

    cohort: fewest clients in any sum. colluders: of them, who is assumed to pool what it knows. follows: what the
    multiplier follows from, where each client computes it by itself.
    """

    noise_multiplier: float
    clipping_norm: float
    cohort: int
    colluders: int
    follows: str = ""

    @classmethod
    def calibrated(
        cls, *, epsilon: float, delta: float, releases: int, clipping_norm: float, cohort: int, colluders: int
    ) -> NoiseShares:
        """Shares with which `releases` sums over at least `cohort` clients, of which `colluders` pool what they know
        (their own shares included), cost each other client at most (epsilon, delta). Raises PlanInvalid."""
        if cohort <= colluders:
            raise PlanInvalid(
                f"with {colluders} colluding clients a cohort of {cohort} leaves nobody to add noise",
                remedy="Raise federation.min_cohort.",
                travels=True,
            )
        return cls(calibrate(epsilon, delta, 1.0, releases), clipping_norm, cohort, colluders)

    @property
    def honest(self) -> int:
        """Clients whose shares nobody can take off again."""
        return self.cohort - self.colluders

    @property
    def deviation(self) -> float:
        """Standard deviation of one client's share, in units of the update."""
        return self.noise_multiplier * self.clipping_norm / math.sqrt(self.honest)

    @property
    def bound(self) -> float:
        """Clip of each coordinate of what is sent, wide enough that it never clips noise."""
        return self.clipping_norm + TAIL * self.deviation

    @property
    def text(self) -> str:
        """What all clients of a sum must have agreed upon: a client told of less noise would spoil the others'."""
        return f"{self.follows or repr(self.noise_multiplier)}/{self.clipping_norm!r}/{self.cohort}/{self.colluders}"


def clipped(values: Floats, norm: float) -> Floats:
    """`values` scaled down to an L2 norm of at most `norm`. Not finite: zeros; that it happened stays here."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(np.linalg.norm(values))
    if not math.isfinite(size):
        return np.zeros_like(values)
    return values * min(1.0, norm / size) if size > 0 else values
