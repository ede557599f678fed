"""Real updates as small integers whose sum over a cohort fits its lane, and back.

A value is clipped to [-bound, bound] and mapped to 0 .. 2^bits - 1 by stochastic rounding, so the expectation of the
sum is exact. Two values share one slot of the cipher, in lanes of `LANE_BITS`; the bits a value gets are what the
lane leaves after the headroom that the cohort's sum needs.

>>> q = Quantiser(bound=1.0, cohort=7)
>>> q.bits, q.resolution < 1e-5
(18, True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.errors import PlanInvalid, SumRejected
from privacy.noise import SecureNoise

LANE_BITS = 21
LANES = 2

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantiser:
    """bound: clip of each coordinate. cohort: the largest number of clients whose values are summed."""

    bound: float
    cohort: int

    def __post_init__(self) -> None:
        if self.bits < 8:
            raise PlanInvalid(
                f"a cohort of {self.cohort} leaves {self.bits} bits a value, at least 8 are needed",
                remedy="Sum in smaller cohorts.",
                travels=True,
            )

    @property
    def bits(self) -> int:
        """Bits of one client's value."""
        return LANE_BITS - (self.cohort - 1).bit_length()

    @property
    def resolution(self) -> float:
        """Distance between two neighbouring values that can be represented."""
        return 2 * self.bound / float(2**self.bits - 1)

    def encode(self, values: npt.NDArray[np.float32] | Floats, source: SecureNoise) -> Integers:
        """Slots: int64 [ceil(n / 2)], each below 2^42, from n real values. Raises PlanInvalid if one is not finite."""
        exact = np.asarray(values, dtype=np.float64)
        if not np.isfinite(exact).all():
            raise PlanInvalid(
                "the update is not finite", remedy="Lower training.learning_rate or training.momentum.", travels=True
            )
        scaled = (np.clip(exact, -self.bound, self.bound) + self.bound) / self.resolution
        levels = np.floor(scaled + source.uniform(len(scaled))).astype(np.int64)
        lanes = np.zeros(len(levels) + len(levels) % LANES, dtype=np.int64)
        lanes[: len(levels)] = np.minimum(levels, 2**self.bits - 1)
        return lanes[0::2] | (lanes[1::2] << LANE_BITS)

    def decode_mean(self, slots: Integers, clients: int, count: int) -> Floats:
        """The mean of `clients` encoded vectors of `count` values from the exact sum of their slots.

        Raises SumRejected when a lane holds more than `clients` values can add up to.
        """
        lanes = np.empty(LANES * len(slots), dtype=np.int64)
        lanes[0::2] = slots & (2**LANE_BITS - 1)
        lanes[1::2] = slots >> LANE_BITS
        check_lanes(lanes, clients * (2**self.bits - 1))
        return lanes[:count].astype(np.float64) * (self.resolution / clients) - self.bound


def check_lanes(values: Integers, largest: int) -> None:
    """Raise SumRejected unless every value lies in 0 .. largest."""
    if len(values) and (values.min() < 0 or values.max() > largest):
        raise SumRejected("a value of the decrypted sum is out of range", travels=True)
