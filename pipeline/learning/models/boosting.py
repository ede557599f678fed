"""What follows from a sum of counts or residuals: a step of every shape, shrunk by its doubt."""

from __future__ import annotations

import math

import numpy as np

from pipeline.learning.models.adding import each_of, level_unit, two_of, unit_of
from pipeline.learning.models.binned import Step, risen, smoothed
from pipeline.learning.models.bins import Bins
from pipeline.learning.models.ordering import Stage
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

STEP, MOMENTUM, LATER = 2.0, 0.5, 0.75
"""Over the number of columns: largest step that is stable when all of them say the same. Part of the last step that
goes on. Part of the steps whose mean answers."""
NEIGHBOURS, PAIR = 0.3, 0.5
"""Deviations of the difference of neighbouring bins, and of a pair's effect, over that of a column's."""
SURE = 1.0
"""Deviations of the noise by which a bin may hold fewer records than were counted."""
FARTHEST = 4.0
"""How far the whole is moved at once."""
IMPOSSIBLE = 8.0
"""Deviations of the noise by which the counts of two columns may differ."""


def counted(bins: Bins, task: Task, state: Step, total: Integers, noise: float, stage: Stage) -> None:
    """The mean of all counts so far. Every axis counts every record, and those with few bins say best how many."""
    each, before = each_of(len(bins.axes)), stage.number
    found = total / each
    state.counts[:] = (state.counts * before + found[: bins.cells]) / (before + 1)
    deviation = noise / each / math.sqrt(before + 1)
    sums, weights = [], []
    for number in range(len(bins.axes)):
        low, high = bins.edges[number], bins.edges[number + 1]
        sums.append(math.fsum(state.counts[low:high].tolist()))
        weights.append(1 / (high - low))
    rows = math.fsum(s * w for s, w in zip(sums, weights, strict=True)) / math.fsum(weights)
    for told, weight in zip(sums, weights, strict=True):
        if abs(told - rows) > IMPOSSIBLE * (deviation / math.sqrt(weight) + 1e-6 * abs(rows) + 1):
            raise ValueError("the counts of two columns are not those of the same records")
    moments = len(found) - bins.cells
    state.sums[:moments] = (state.sums[:moments] * before + found[bins.cells :]) / (before + 1)
    state.total[0], state.doubt[0] = rows, deviation
    state.start[:] = task.beginning(state.means).outputs
    if stage.number + 1 == stage.of:
        state.counts[: bins.bins] = np.maximum(state.counts[: bins.bins], 0.0)


def screened(bins: Bins, state: Step, total: Integers) -> None:
    """The pairs whose products say most."""
    _, chosen = bins.effects(state)
    first, second = two_of(len(chosen))
    order = sorted(range(len(total)), key=lambda number: (-abs(int(total[number])), number))
    for place, number in enumerate(order[: bins.found]):
        state.pairs[place] = (chosen[first[number]], chosen[second[number]])


def stepped(bins: Bins, task: Task, state: Step, total: Integers, noise: float, stage: Stage) -> None:
    """A step of every shape."""
    active = len(bins.axes) + (bins.found if stage.what == "both" else 0)
    end = bins.edges[active]
    unit = unit_of(bins.outputs * (active + 1)) / bins.clipping(task, state, active)
    sums, noise = total.reshape(bins.outputs, -1) / unit, noise / unit
    state.doubt[2] = noise
    _filled(bins, state, sums, active)
    if stage.number == 0:  # nothing was learned yet, or nothing of pairs
        _curved(bins, task, state, sums, noise, stage)
        state.speed[:] = 0.0
        state.shapes[:] = state.mean
    for output in range(bins.outputs):
        for number in range(active):
            low, high = bins.edges[number], bins.edges[number + 1]
            move = _move(bins, task, state, sums[output, low:high], noise, output, number)
            state.speed[output, low:high] = MOMENTUM * state.speed[output, low:high] + STEP / active * move
    state.shapes[:, :end] += state.speed[:, :end]
    _bent(bins, state)
    after = stage.number - math.floor((1 - LATER) * stage.of)
    if after <= 0:
        state.mean[:] = state.shapes
    else:
        state.mean[:] = state.mean + (state.shapes - state.mean) / (after + 1)


def levelled(task: Task, state: Step, total: Integers) -> None:
    """Move the whole to where what it says is right in the mean: records that a rare outcome makes unusual were clipped
    more than others."""
    away = total / level_unit(len(total)) / state.rows
    state.start += np.clip(task.shift(state.means, away), -FARTHEST, FARTHEST)


def _filled(bins: Bins, state: Step, sums: Floats, active: int) -> None:
    """What the fullest bin of each axis has follows from the sum of all residuals."""
    full = bins.fullest(state)
    for output in range(bins.outputs):
        for number in range(active):
            low, high = bins.edges[number], bins.edges[number + 1]
            sums[output, full[number]] = 0.0
            sums[output, full[number]] = sums[output, -1] - math.fsum(sums[output, low:high].tolist())


def _curved(bins: Bins, task: Task, state: Step, sums: Floats, noise: float, stage: Stage) -> None:
    """How steep the loss is in each bin: from its first residuals; in a cell of a pair, as in the steeper bin."""
    if stage.what == "shapes" or bins.declared:
        counts = state.counts[: bins.bins] + 2 * noise + 1
        state.curves[:, : bins.bins] = task.curvature(state.means, sums[:, : bins.bins] / counts)
    if stage.what == "both":
        groups, side = bins.groups(state), bins.model.cells
        for number, pair in enumerate(bins.pairs(state)):
            steep = [np.zeros((bins.outputs, side)) for _ in pair]
            for axis, into in zip(pair, steep, strict=True):
                for bin in range(bins.edges[axis], bins.edges[axis + 1]):
                    np.maximum(into[:, groups[bin]], state.curves[:, bin], out=into[:, groups[bin]])
            low = bins.edges[len(bins.axes) + number]
            both = np.maximum(steep[0][:, :, None], steep[1][:, None, :])
            state.curves[:, low : low + side**2] = both.reshape(bins.outputs, -1)


def prior_of(
    bins: Bins, task: Task, state: Step, noise: float, output: int, number: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Of the bins of an axis or the cells of a pair: how steep the loss is, how far each is held back, how far to
    its neighbours, the variance of what all sums together say, and how steep the loss surely is."""
    low, high = bins.edges[number], bins.edges[number + 1]
    pair = number >= len(bins.axes)
    counts, curves = state.counts[low:high], state.curves[output, low:high]
    floor = np.maximum(curves, 1e-6)
    steep = floor * np.maximum(counts, 1.0)
    surely = floor * np.maximum(counts - SURE * state.doubt[1 if pair else 0], 1.0)
    heard = np.full(high - low, noise * noise / bins.model.rounds)
    heard[int(np.argmax(counts))] *= high - low  # it is what is left of all the others
    said = heard + steep
    reach = task.beginning(state.means).reach * (PAIR if pair else 1.0)
    held, near = said / (surely * reach**2), said / (surely * (reach * NEIGHBOURS) ** 2)
    return steep, held, near, said, surely


def _move(bins: Bins, task: Task, state: Step, sums: Floats, noise: float, output: int, number: int) -> Floats:
    """The Newton step of one axis or pair, as if the others were right."""
    steep, held, near, _, _ = prior_of(bins, task, state, noise, output, number)
    low, high = bins.edges[number], bins.edges[number + 1]
    ordered = bins.axes[number][2].ordered if number < len(bins.axes) else 0
    return smoothed(sums, state.shapes[output, low:high], steep, held, near[:ordered])


def _bent(bins: Bins, state: Step) -> None:
    """Shapes that may only rise or fall, as near as they can be."""
    for number, (name, _, axis) in enumerate(bins.axes):
        if axis.kind == "even" and (way := bins.model.monotone.get(name)):
            low = bins.edges[number]
            high = low + axis.ordered
            for output in range(bins.outputs):
                sign = 1.0 if way == "rising" else -1.0
                own = sign * state.shapes[output, low:high]
                state.shapes[output, low:high] = sign * risen(own, state.counts[low:high])
