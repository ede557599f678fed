"""An axis of a column: its features as one bin a record, for models that are learned from counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from privacy.noise import Floats, Integers

Matrix = npt.NDArray[np.float32]

MIDDLE = 0.5
"""Radius within which a point is none of the circle."""
HOURS = 24
"""Bins of a circle."""


@dataclass(frozen=True)
class Axis:
    """Features from `at` on, `width` of them, as bins; `labels` has one a bin.

    even: a quantity in [0, 1], and whether it is unknown, which is the last bin. turn: a point on a circle, its sine
    and cosine scaled to [0, 1]; in the middle, which is the last bin, it is unknown. names: a feature a name; the first
    bin is of those that are none of them. edges: of even bins, in the column's own unit.
    """

    kind: Literal["even", "turn", "names"]
    title: str
    labels: tuple[str, ...]
    at: int = 0
    width: int = 2
    edges: tuple[float, ...] = ()

    @property
    def bins(self) -> int:
        return len(self.labels)

    @property
    def ordered(self) -> int:
        """How many of the bins, from the first, follow one another."""
        return 0 if self.kind == "names" else self.bins - 1

    def of(self, features: Matrix) -> Integers:
        """The bin of each record; features: of its column [rows, width of the column]."""
        own = features[:, self.at : self.at + self.width]
        if self.kind == "even":
            return np.where(own[:, 1] > 0, self.bins - 1, _part(own[:, 0], self.bins - 1))
        if self.kind == "turn":
            y, x, turns = 2.0 * own[:, 0] - 1.0, 2.0 * own[:, 1] - 1.0, self.bins - 1
            place = _part(np.mod(np.arctan2(y, x) / (2 * math.pi) + 0.5 / turns, 1.0), turns)
            return np.where(np.hypot(x, y) < MIDDLE, turns, place)
        # One of them is 1 at most, so this is its number; ten times faster than to look for it.
        numbers = own @ np.arange(1, self.width + 1, dtype=np.float32)
        return np.clip(np.rint(numbers), 0, self.bins - 1).astype(np.int64)


def even(title: str, fine: int, told: Callable[[Floats], list[str]], unknown: str, edges: Floats | None = None) -> Axis:
    """`fine` even bins of a quantity in [0, 1]. told: what their edges [fine + 1] are in the column's own words."""
    words = told(np.linspace(0.0, 1.0, fine + 1))
    labels = [f"{low} to {high}" for low, high in pairwise(words)]
    values = () if edges is None else tuple(edges.tolist())
    return Axis("even", title, (*labels, unknown), edges=values)


def _part(shares: Matrix, bins: int) -> Integers:
    return np.clip((shares.astype(np.float64) * bins).astype(np.int64), 0, bins - 1)
