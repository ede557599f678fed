"""What an audit in one run can show: a lower bound of epsilon from guesses about canaries.

Canaries are records that are put into a replica of a job, each with a probability of one half. Whoever sees what the
job releases guesses which were in. Under (epsilon, delta) no guesser is right much more often than by chance: that a
claim is refuted is a theorem (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2), that it is not refuted
shows nothing. How many guesses are made is decided before anything is seen.

>>> round(shown(Guesses(asked=1000, guessed=1000, right=1000), delta=0.0, confidence=0.95), 2)
5.81
>>> shown(Guesses(asked=1000, guessed=1000, right=500), delta=1e-5, confidence=0.95)
0.0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from privacy.noise import Floats

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

MOST = 20.0
"""Epsilon above which nothing is looked for: so many canaries nobody has."""


@dataclass(frozen=True)
class Guesses:
    """asked: canaries. guessed: about how many of them a guess was made. right: how many guesses were right."""

    asked: int
    guessed: int
    right: int


def guess(scores: Floats, included: Flags, guessed: int) -> Guesses:
    """The half of `guessed` canaries with the highest scores are said to be in, the half with the lowest to be out."""
    half = guessed // 2
    order = np.argsort(scores, kind="stable")
    right = int(included[order[len(order) - half :]].sum()) + int((~included[order[:half]]).sum())
    return Guesses(len(scores), 2 * half, right)


def shown(guesses: Guesses, delta: float, confidence: float) -> float:
    """The largest epsilon that these guesses refute with `confidence`, in (0, 1): at least so large is the true one."""
    low, high = 0.0, MOST
    if _chance(guesses, low, delta) > 1 - confidence:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if _chance(guesses, middle, delta) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def most(asked: int, delta: float, confidence: float) -> float:
    """What the best guesser could show of so many canaries."""
    return shown(Guesses(asked, asked, asked), delta, confidence)


def _chance(guesses: Guesses, epsilon: float, delta: float) -> float:
    """How probable so many right guesses are at most, under (epsilon, delta) (theorem 5.2 and algorithm 3 there)."""
    likely = 1 / (1 + math.exp(-epsilon))
    right, made = guesses.right, guesses.guessed
    by_luck = float(binom.sf(right - 1, made, likely))
    fewer = np.cumsum(binom.pmf(right - np.arange(1, right + 1), made, likely))
    steepest = float((fewer / np.arange(1, right + 1)).max(initial=0.0))
    return min(1.0, by_luck + 2 * guesses.asked * delta * steepest)
