"""Real updates as small integers whose sum over a cohort fits its lane, and back.

A value is clipped to [-bound, bound] and rounded to the nearest level after a dither was added that all members of
the group can compute; whoever opens the sum takes the dithers off again. The error of one value is then uniform in
half a level to either side, whatever the value is, so the sum is unbiased; its variance is half that of stochastic
rounding and its largest error half as large (subtractive dithering: Roberts 1962; Schuchman 1964).

>>> q = Quantiser(bound=1.0, layout=Layout.for_cohort(5))
>>> q.resolution < 1e-5
True
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.errors import PlanInvalid, SumRejected
from privacy.layout import Layout
from privacy.noise import Floats, Integers
from privacy.stream import Words, keystream

_DITHERS = 2**16
_CHUNK = 16_384
"""Values handled at a time: what fits the processor's cache costs half."""


@dataclass(frozen=True)
class Quantiser:
    """bound: clip of each coordinate."""

    bound: float
    layout: Layout

    @property
    def resolution(self) -> float:
        """Distance between two neighbouring levels."""
        return 2 * self.bound / (self.layout.levels - 1)

    def encode(self, values: npt.NDArray[np.float32] | Floats, dither: bytes, noise: Integers | None = None) -> Words:
        """uint64 [ceil(n / lanes)] from n real values. Raises PlanInvalid if one is not finite.

        noise: whole levels [n] to add. The bound has to be far enough away that it clips none of it.
        """
        levels = np.empty(len(values), dtype=np.uint64)
        drawn = _dither(dither, len(values))
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            levels[part] = self._levels(np.asarray(values[part], dtype=np.float64), drawn[part], noise, part)
        if self.layout.lanes == 1:
            return levels
        packed = levels[0::2].copy()
        packed[: len(levels) // 2] |= levels[1::2] << np.uint64(self.layout.width)
        return packed

    def within(self, values: Floats, dither: bytes, norm: float) -> Floats:
        """`values` scaled down until that which `encode` makes of them, rounding included, has an L2 norm of at most
        `norm`. Raises PlanInvalid when the rounding alone might have more: it depends on public numbers only."""
        rounding = self.resolution / 2 * math.sqrt(len(values))
        if rounding >= norm:
            raise PlanInvalid(
                f"rounding {len(values):,} values to levels of {self.resolution:.1e} alone exceeds the clipping norm",
                remedy="Take fewer clients, a smaller model, or a larger privacy.epsilon.",
                travels=True,
            )
        for _ in range(20):
            size = float(np.linalg.norm(self.decode_sum(self.encode(values, dither), [dither], len(values))))
            if size <= norm:
                return values
            values = values * (0.999 * norm / size)
        size = float(np.linalg.norm(values))
        return values * min(1.0, 0.999 * (norm - rounding) / size)

    def _levels(
        self,
        values: Floats,
        dither: npt.NDArray[np.uint16],
        noise: Integers | None,
        part: slice,
    ) -> Words:
        scaled = values * (1 / self.resolution)
        if not np.isfinite(scaled).all():
            raise PlanInvalid(
                "the update is not finite", remedy="Lower training.learning_rate or training.momentum.", travels=True
            )
        half = (self.layout.levels - 1) / 2
        if noise is not None:
            scaled += noise[part]
        np.clip(scaled, -half, half, out=scaled)
        scaled += half
        scaled += (dither + 0.5) * (1 / _DITHERS)
        return np.minimum(scaled.astype(np.uint64), self.layout.levels - 1)  # truncation is floor: none is negative

    def decode_sum(self, coefficients: Words, dithers: Iterable[bytes], count: int) -> Floats:
        """The sum of the `count` encoded values of the clients with these dithers.

        Raises SumRejected when a lane holds more than so many clients can add up to.
        """
        levels = np.empty(self.layout.lanes * len(coefficients), dtype=np.uint64)
        if self.layout.lanes == 1:
            levels[:] = coefficients
        else:
            levels[0::2] = coefficients & np.uint64(2**self.layout.width - 1)
            levels[1::2] = coefficients >> np.uint64(self.layout.width)
        levels = levels[:count]
        taken: npt.NDArray[Any] = np.zeros(count, dtype=np.uint32 if self.layout.cohort < 2**15 else np.uint64)
        clients = 0
        for key in dithers:
            taken += _dither(key, count)
            clients += 1
        if len(levels) and levels.max() > clients * (self.layout.levels - 1):
            raise SumRejected("a value of the decrypted sum is out of range", travels=True)
        total = levels.astype(np.float64)
        total -= taken * (1 / _DITHERS)
        # Each client's value was moved up by half the levels; floor takes half a level, the dither's centre a little.
        total += clients * (0.5 - 0.5 / _DITHERS - (self.layout.levels - 1) / 2)
        total *= self.resolution
        return total


def _dither(key: bytes, count: int) -> npt.NDArray[np.uint16]:
    return np.frombuffer(keystream(key, 2 * count), dtype="<u2")
