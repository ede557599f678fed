"""How real updates become coefficients of the cipher: lanes, levels and moduli, all derived from the cohort.

One frozen value holds every number that must agree between those who seal, the one who adds and those who open. A
coefficient of the plaintext is an integer below `2^(lanes * width)`. Two values share it while the noise bound admits
the cohort and leaves enough levels; larger cohorts get one wide lane, never silently a wrong sum.

>>> layout = Layout.for_cohort(5)
>>> layout.lanes, layout.width, layout.levels
(2, 20, 209716)
>>> Layout.for_cohort(2000).lanes
1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from math import isqrt
from typing import Self

from privacy.errors import PlanInvalid

DEGREE = 2048
"""N: coefficients of a block."""
DATA = DEGREE - 1
"""Coefficients of a block that carry data; the last one carries its tag."""
MODULUS = (505 << 42) + 1
"""q: a prime of 51 bits, 1 modulo 2N and modulo every plain modulus. The HE standard's table allows 54 bits at N = 2048
for 128-bit security against classical computers and 51 against quantum ones."""
SEED_BYTES = 64
"""From which the second polynomial of a fresh ciphertext expands."""
DROPPED_BITS = 3
"""Lowest bits of a sealed coefficient: noise, rounded away before it travels."""

_NOISE = 21 + (1 << (DROPPED_BITS - 1)) + 1
"""Most that one client adds to a coefficient's noise: SEAL's centred binomial, the rounding, one wrap of the masks."""
_SHAPES = ((2, 20), (2, 19), (1, 36), (1, 34), (1, 32), (1, 30), (1, 28))
_LEAST_LEVELS = 256
_LARGEST_PRIME = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """cohort: the largest number of clients in a sum. lanes values of `width` bits share one coefficient."""

    cohort: int
    lanes: int
    width: int

    @classmethod
    def for_cohort(cls, cohort: int) -> Self:
        """The densest layout whose sums of `cohort` clients are exact. Raises PlanInvalid if there is none."""
        for lanes, width in _SHAPES:
            layout = cls(cohort, lanes, width)
            if layout.exact and layout.levels >= _LEAST_LEVELS:
                return layout
        raise PlanInvalid(
            f"no encrypted sum of {cohort} clients is exact",
            remedy="Sum in smaller cohorts, then sum their sums.",
            travels=True,
        )

    @property
    def exact(self) -> bool:
        """Whether the noise of a whole cohort stays below the bound of exact decryption, q / 2t."""
        return 2 * self.plain_modulus * (self.cohort * _NOISE + 6) < MODULUS

    @property
    def plain_modulus(self) -> int:
        """t: a power of two that divides q - 1."""
        return 1 << (self.lanes * self.width)

    @property
    def levels(self) -> int:
        """How many values one client's lane can take, so that a whole cohort's sum stays in the lane."""
        return ((1 << self.width) - 1) // self.cohort + 1

    @property
    def largest_integer(self) -> int:
        """Integers of `Holder.seal_integers` lie in [-largest, largest]: offset and summed they stay below t."""
        return self.plain_modulus // (2 * self.cohort) - 1

    @cached_property
    def check_prime(self) -> int:
        """Modulus of a block's checksum: the largest prime whose sums over the cohort stay below t."""
        candidate = min(self.plain_modulus // self.cohort, _LARGEST_PRIME)
        while not _is_prime(candidate):
            candidate -= 1
        return candidate

    def coefficients(self, values: int) -> int:
        """Coefficients that `values` quantised values take."""
        return -(-values // self.lanes)

    @staticmethod
    def blocks(coefficients: int) -> int:
        """Blocks that `coefficients` take, at least one."""
        return max(1, -(-coefficients // DATA))

    def __str__(self) -> str:
        return f"{self.lanes} x {self.width} bits a coefficient, {self.levels:,} levels a value"


@cache
def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
