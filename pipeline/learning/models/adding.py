"""What each client adds to a sum from which shapes are learned: whole numbers, of a known norm a record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from pipeline.learning.models.binned import Step
from pipeline.learning.models.bins import USUAL, Bins
from pipeline.learning.models.summing import NORM
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

LARGEST = math.sqrt(2)
"""Norm of the residuals of a record that a class was certain of, wrongly."""


def residuals_of(bins: Bins, task: Task, state: Step, places: Integers, residuals: Floats) -> Integers:
    """Sums of clipped residuals in all bins but the fullest of each axis, and of all of them."""
    full = bins.fullest(state)
    adds = places != full[None, : places.shape[1]]
    unit = unit_of(bins.outputs * (places.shape[1] + 1)) / bins.clipping(task, state, places.shape[1])
    norms = np.linalg.norm(residuals, axis=1) * np.sqrt(1 + adds.sum(axis=1))
    most = unit_of(bins.outputs * (places.shape[1] + 1)) / unit
    kept = residuals * np.minimum(1.0, most / np.maximum(norms, 1e-300))[:, None]
    whole = np.rint(kept * unit).astype(np.int64)
    told = np.zeros((bins.outputs, bins.cells + 1), dtype=np.int64)
    for output in range(bins.outputs):
        each = np.repeat(whole[:, output], places.shape[1])  # whole numbers below 2^53: exact as floats
        told[output, :-1] = np.bincount(places.reshape(-1), weights=each, minlength=bins.cells)
        told[output, full] = 0
        told[output, -1] = whole[:, output].sum()
    return told.reshape(-1)


def levels_of(residuals: Floats) -> Integers:
    """The sum of all residuals, whole: no more than one number an output, so there is no need to clip usual ones."""
    unit = level_unit(residuals.shape[1])
    norms = np.linalg.norm(residuals, axis=1)
    kept = residuals * np.minimum(1.0, LARGEST / np.maximum(norms, 1e-300))[:, None]
    return np.asarray(np.rint(kept * unit).astype(np.int64).sum(axis=0))


def level_unit(outputs: int) -> float:
    """What a residual of one is in it."""
    return unit_of(outputs) / LARGEST


def products_of(bins: Bins, task: Task, state: Step, places: Integers, residuals: Floats) -> Integers:
    """Of each two columns: the sum of residual times effect of the one times effect of the other, where effects have
    a deviation of one."""
    effects, chosen = bins.effects(state)
    size = len(chosen) * (len(chosen) - 1) // 2
    first, second = two_of(len(chosen))
    most = USUAL * len(chosen) / math.sqrt(2) * task.beginning(state.means).size * math.sqrt(0.5)
    unit, told = unit_of(size) / most, np.zeros(size, dtype=np.int64)
    for rows in np.array_split(np.arange(len(places)), max(1, len(places) * size // 2_000_000)):
        made = np.zeros((len(rows), size))
        for output in range(bins.outputs):
            own = effects[output][places[rows][:, chosen]]
            made += residuals[rows, output, None] * own[:, first] * own[:, second]
        norms = np.linalg.norm(made, axis=1)
        made *= np.minimum(1.0, most / np.maximum(norms, 1e-300))[:, None]
        told += np.rint(made * unit).astype(np.int64).sum(axis=0)
    return told


def each_of(columns: int) -> int:
    """What a record adds to one bin of each of so many columns, and at most twice more to its moments."""
    return math.floor(NORM / math.sqrt(columns + 2))


def unit_of(numbers: int) -> float:
    """Norm that is left where each of so many numbers is rounded."""
    return NORM - 0.5 * math.sqrt(numbers)


def two_of(columns: int) -> tuple[list[int], list[int]]:
    both: Iterator[tuple[int, int]] = combinations(range(columns), 2)
    first, second = zip(*both, strict=True)
    return list(first), list(second)
