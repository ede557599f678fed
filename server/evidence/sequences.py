"""Intervals and tests that hold at every moment at once: whoever looks after each outcome, and stops when it pleases,
is misled no more often than who looks once.

* A confidence sequence for a mean of bounded numbers: predictable plug-in empirical Bernstein (Waudby-Smith and Ramdas,
  Estimating means of bounded random variables by betting, JRSS B 2024, theorem 2), here with a range of its own for
  each number, as their supermartingale allows (Howard, Ramdas, McAuliffe, Sekhon, Annals of Statistics 2021, section
  3: what one number may weigh need only be known before it is seen).
* The difference of two arms as such a mean: augmented inverse-propensity scores, whose expectation is the difference
  whatever the guesses are that were made before (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Time-uniform central
  limit theory, section 3; guessing well only makes them vary less).
* The shares that subjects got against those that were asked for: a Dirichlet mixture of multinomials (Lindon and Malek,
  Anytime-valid inference for multinomial count data, NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from privacy.noise import Floats

CAUTION = 0.5
"""Most of its range that a number may be bet on (their c)."""


@dataclass(frozen=True)
class Interval:
    """Where a mean lies, with the stated confidence, and the guess in its middle."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def mean_sequence(values: Floats, ranges: Floats | float, alpha: float, guess: float = 0.0) -> Interval:
    """Of the mean of `values` [n], in the order in which they came, with confidence 1 - alpha at all n at once.

    ranges: how far apart the least and the greatest value can be, of each; known before it was seen. guess: of the
    mean, before anything was.
    """
    count = len(values)
    widths = np.broadcast_to(np.asarray(ranges, dtype=np.float64), (count,))
    if count == 0:
        return Interval(guess, -math.inf, math.inf, 0)
    order = np.arange(1, count + 1)
    # What is known before each value: one pretended value at the guess, a quarter of its range away in the square.
    before = (guess + np.concatenate([[0.0], np.cumsum(values[:-1])])) / order
    after = (guess + np.cumsum(values)) / (order + 1)
    squares = np.cumsum((values - after) ** 2)
    spread = ((widths[0] / 4) ** 2 + np.concatenate([[0.0], squares[:-1]])) / order
    bets = np.minimum(np.sqrt(2 * math.log(2 / alpha) / (spread * order * np.log(1 + order))), CAUTION / widths)
    weighed = bets * widths
    costs = (-np.log1p(-weighed) - weighed) / widths**2 * (values - before) ** 2
    total = float(bets.sum())
    middle, half = float(bets @ values) / total, (math.log(2 / alpha) + float(costs.sum())) / total
    return Interval(middle, middle - half, middle + half, count)


def difference(
    chosen: Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]], shares: Floats, values: Floats, alpha: float
) -> Interval:
    """Of the mean that `values` [n] in [0, 1] have where `chosen`, less the mean where not, in their order.

    shares: the probability, strictly between 0 and 1, with which each was chosen.
    """
    chosen = np.asarray(chosen, dtype=np.bool_)
    ones, others = _running(values, chosen), _running(values, ~chosen)
    scores = ones - others + np.where(chosen, (values - ones) / shares, -(values - others) / (1 - shares))
    return mean_sequence(scores, 2 / np.minimum(shares, 1 - shares), alpha)


def needed(effect: float, deviation: float, range: float, alpha: float) -> int | None:
    """About how many values, of such a deviation, until an interval tells a mean of `effect` from 0; None: too many."""
    if not effect:
        return None
    low, high = 1, 2
    while _half(high, deviation, range, alpha) > abs(effect):
        low, high = high, 2 * high
        if high > 2**22:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if _half(middle, deviation, range, alpha) > abs(effect) else (low, middle)
    return high


def mismatch(counts: Mapping[int, int], shares: Mapping[int, float]) -> float:
    """Evidence that subjects did not fall into the arms by `shares`: a number whose expectation is at most 1 at every
    moment if they did, so that 1 / alpha is reached with probability alpha at most; as its logarithm."""
    arms = [arm for arm, share in shares.items() if share > 0]
    if any(count and arm not in arms for arm, count in counts.items()):
        return math.inf
    found, whole = [counts.get(arm, 0) for arm in arms], sum(shares[arm] for arm in arms)
    mixed = math.lgamma(len(arms)) - math.lgamma(sum(found) + len(arms)) + sum(math.lgamma(n + 1) for n in found)
    return mixed - sum(n * math.log(shares[arm] / whole) for n, arm in zip(found, arms, strict=True))


def _running(values: Floats, of: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    """Before each value the mean of those of one arm that came before it; of none of them a half."""
    counts = np.concatenate([[0], np.cumsum(of)[:-1]])
    sums = np.concatenate([[0.0], np.cumsum(np.where(of, values, 0.0))[:-1]])
    return np.asarray((0.5 + sums) / (1 + counts))


def _half(count: int, deviation: float, range: float, alpha: float) -> float:
    """About half the width of the interval after so many values."""
    order = np.arange(1, count + 1)
    spread = deviation**2 + (range / 4) ** 2 / order
    bets = np.minimum(np.sqrt(2 * math.log(2 / alpha) / (spread * order * np.log(1 + order))), CAUTION / range)
    costs = (-np.log1p(-bets * range) - bets * range) / range**2 * deviation**2
    return float((math.log(2 / alpha) + costs.sum()) / bets.sum())
