"""What is known while shapes are learned, as one vector, and arithmetic on the bins of one axis.

Everybody who opened the same sums has to arrive at the same numbers to the last bit. So there are no products of
matrices and no sums whose order a library chooses: `math.fsum` is right to the last bit in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.noise import Floats, Integers


@dataclass
class Step:
    """What is known after some sums; the arrays are parts of one vector.

    seen [1]: sums so far. total [1]: records. sums: of their moments. start [outputs]: what a model says that knows no
    column. doubt [3]: deviation of the noise in counts
    of bins, in counts of cells, and in residuals. pairs [pairs, 2]: axes. counts
    [cells]. Of each output and cell: curves, how steep the loss is; shapes, after the last step, and its speed; mean,
    what answers.
    """

    seen: Floats
    total: Floats
    sums: Floats
    start: Floats
    doubt: Floats
    pairs: Floats
    counts: Floats
    curves: Floats
    shapes: Floats
    speed: Floats
    mean: Floats

    @property
    def rows(self) -> float:
        """At least one."""
        return max(float(self.total[0]), 1.0)

    @property
    def means(self) -> Floats:
        """Of the moments."""
        return self.sums / self.rows


def smoothed(sums: Floats, shape: Floats, steep: Floats, held: Floats, near: Floats) -> Floats:
    """The step to the mode of the posterior, bin by bin: of a quadratic loss that is `steep`, with the gradient `sums`,
    a normal prior of precision `held` around zero, and one of `near` of the differences of the first bins, which are in
    a row. A tridiagonal system, solved by Thomas' algorithm."""
    rest, diagonal = sums - held * shape, steep + held
    move = rest / diagonal
    if (ordered := len(near)) < 2:
        return np.asarray(move)
    differences = np.diff(shape[:ordered])
    rest[: ordered - 1] += near[:-1] * differences
    rest[1:ordered] -= near[1:] * differences
    inner = np.full(ordered, 2.0)
    inner[0] = inner[-1] = 1.0
    diagonal = (diagonal[:ordered] + near * inner).tolist()
    right, pull = rest[:ordered].tolist(), near.tolist()
    above = [0.0] * ordered
    for at in range(ordered):
        below = -pull[at] if at else 0.0
        pivot = diagonal[at] - (below * above[at - 1] if at else 0.0)
        above[at] = -pull[at] / pivot if at < ordered - 1 else 0.0
        right[at] = (right[at] - (below * right[at - 1] if at else 0.0)) / pivot
    for at in range(ordered - 2, -1, -1):
        right[at] -= above[at] * right[at + 1]
    move[:ordered] = right
    return np.asarray(move)


def centred(shape: Floats, counts: Floats) -> tuple[Floats, float]:
    """A shape with the mean zero over the records, and its deviation."""
    weights = np.maximum(counts, 0.0)
    rows = max(math.fsum(weights.tolist()), 1.0)
    away = shape - math.fsum((weights * shape).tolist()) / rows
    return away, math.sqrt(math.fsum((weights * away * away).tolist()) / rows)


def grouped(counts: Floats, parts: int, ordered: int) -> Integers:
    """The part, below `parts`, that each bin is in. Bins in a row: parts of equally many records, and those after them
    the last part. Names: the fullest ones by themselves, and all others together."""
    bins = len(counts)
    found = np.full(bins, min(parts, bins) - 1, dtype=np.int64)
    if bins <= parts:
        return np.arange(bins, dtype=np.int64)
    if not ordered:
        fullest = sorted(range(bins), key=lambda number: (-counts[number], number))[: parts - 1]
        found[fullest] = np.arange(parts - 1)
        return found
    of = parts - 1 if ordered < bins else parts
    rows, reached = max(math.fsum(np.maximum(counts[:ordered], 0.0).tolist()), 1.0), 0.0
    for bin in range(ordered):
        found[bin] = min(int(reached / rows * of), of - 1)
        reached += max(float(counts[bin]), 0.0)
    return found


def risen(shape: Floats, counts: Floats) -> Floats:
    """The nearest shape that never falls, where bins count as they are full: pool adjacent violators."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(shape.tolist(), np.maximum(counts, 1.0).tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            together = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / together, together, before[2] + pool[2])
        pools.append(pool)
    return np.array([value for value, _, bins in pools for _ in range(bins)])
