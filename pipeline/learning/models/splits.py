"""Where a tree can be split: cuts of a column's bins, each as a question about one feature."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from pipeline.learning.columns.axis import Axis
from privacy.noise import Floats, Integers


class Cut(NamedTuple):
    """Records whose `feature` is at least `threshold` go right: those of the bins [first, last) of an axis, whose bins
    are [low, high)."""

    feature: int
    threshold: float
    first: int
    last: int
    low: int
    high: int


def cuts(axis: Axis, at: int, low: int) -> Iterator[Cut]:
    """All of one axis, whose column's features begin `at` and whose bins begin at `low`. What is unknown has the
    quantity zero, and a flag of its own. A circle is asked for nothing."""
    high = low + axis.bins
    if axis.kind == "even":
        last = high - 1
        for bin in range(1, axis.bins - 1):
            yield Cut(at + axis.at, bin / (axis.bins - 1), low + bin, last, low, high)
        yield Cut(at + axis.at + 1, 0.5, last, high, low, high)
    elif axis.kind == "names":
        for bin in range(1, axis.bins):
            yield Cut(at + axis.at + bin - 1, 0.5, low + bin, low + bin + 1, low, high)


class Sums(NamedTuple):
    """Of some records: their residuals, and how steep their loss is."""

    residual: float
    steep: float

    def value(self, l2: float, noise: float) -> float:
        """What a leaf of them adds: Newton's step, held back by `l2` and by as much as the variance of the noise is of
        what they say."""
        steep = max(self.steep, 1e-6)
        return self.residual / (steep + l2 + noise / max(steep, 1.0))


@dataclass(frozen=True)
class Candidates:
    """Every cut of every column."""

    every: tuple[Cut, ...]
    table: Integers
    """first, last, low, high [4, cuts]."""

    @classmethod
    def of(cls, every: Sequence[Cut]) -> Self:
        table = np.array([cut[2:] for cut in every], dtype=np.int64).reshape(-1, 4).T
        return cls(tuple(every), table)

    def best(self, residuals: Floats, steep: Floats, l2: float) -> tuple[Cut, Sums, Sums] | None:
        """The cut of one node that gains most, and what goes left and right; None: none gains anything.

        residuals, steep: of the node's records in each bin.
        """
        first, last, low, high = self.table
        gathered = np.concatenate([np.zeros((2, 1)), np.cumsum(np.stack([residuals, steep]), axis=1)], axis=1)
        right, whole = gathered[:, last] - gathered[:, first], gathered[:, high] - gathered[:, low]
        left = whole - right
        gains = _score(left, l2) + _score(right, l2) - _score(whole, l2)
        place = int(np.argmax(np.where((left[1] > 0) & (right[1] > 0), gains, -np.inf)))
        if not gains[place] > 0:
            return None
        return self.every[place], Sums(*left[:, place].tolist()), Sums(*right[:, place].tolist())

    def drawn(self, counts: Floats, seed: str) -> Cut:
        """One whose column is drawn evenly, and whose bin by how full it is: the same wherever it is drawn."""
        axes = sorted({cut.low for cut in self.every})
        low = axes[int(_chance(seed, "axis") * len(axes))]
        own = [cut for cut in self.every if cut.low == low]
        full = np.cumsum([max(float(counts[cut.first]), 1.0) for cut in own])
        return own[int(np.searchsorted(full, _chance(seed, "bin") * full[-1], side="right"))]


def _score(sums: Floats, l2: float) -> Floats:
    return np.asarray(sums[0] * sums[0] / np.maximum(sums[1] + l2, 1e-6))


def _chance(seed: str, what: str) -> float:
    """From 0 to 1, and less."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:6]) / 2**48
