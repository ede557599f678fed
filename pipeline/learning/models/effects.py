"""What shapes say, for people: the effect of each bin of a column, with the error that is known of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pipeline.learning.columns.axis import Axis
from pipeline.learning.models.binned import Step, centred
from pipeline.learning.models.bins import Bins
from pipeline.learning.models.boosting import prior_of
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats


class Effect(NamedTuple):
    """Of a column, or of two together. values, errors [outputs, bins], or [outputs, cells]: in the unit of the outputs,
    with the mean zero over the records. title: of one part of a column that has several."""

    columns: tuple[str, ...]
    title: str
    axes: tuple[Axis, ...]
    labels: tuple[tuple[str, ...], ...]
    records: Floats
    values: Floats
    errors: Floats

    @property
    def name(self) -> str:
        return " and ".join(self.columns) + (f" ({self.title})" if self.title else "")

    @property
    def document(self) -> dict[str, Any]:
        """As JSON."""
        shape = tuple(len(labels) for labels in self.labels)
        return {
            "columns": list(self.columns),
            "part": self.title,
            "kind": [axis.kind for axis in self.axes],
            "labels": [list(labels) for labels in self.labels],
            "edges": [list(axis.edges) for axis in self.axes] if len(self.axes) == 1 else [],
            "records": np.round(self.records.reshape(shape), 1).tolist(),
            "effect": np.round(self.values.reshape(-1, *shape), 6).tolist(),
            "error": np.round(self.errors.reshape(-1, *shape), 6).tolist(),
        }


def level_of(bins: Bins, state: Step) -> Floats:
    """What is said of a record on which no effect stands out [outputs]."""
    number = len(bins.axes) + len(bins.pairs(state))
    spans = list(zip(bins.edges[:number], bins.edges[1:], strict=False))
    moved = [math.fsum(_middle(state, output, *span) for span in spans) for output in range(bins.outputs)]
    return np.asarray(state.start + np.array(moved))


def centred_table(bins: Bins, state: Step) -> Floats:
    """The effects [outputs, cells], each with the mean zero over the records."""
    made = state.mean.copy()
    for low, high in zip(bins.edges, bins.edges[1:], strict=False):
        for output in range(bins.outputs):
            made[output, low:high] = centred(state.mean[output, low:high], state.counts[low:high])[0]
    return made


def effects_of(bins: Bins, task: Task, state: Step) -> Iterator[Effect]:
    """All of them: columns in their order, then pairs."""
    table = centred_table(bins, state)
    for number, (name, _, axis) in enumerate(bins.axes):
        yield _effect(bins, task, state, table, number, (name,), (axis,), (axis.labels,))
    groups = bins.groups(state)
    for place, pair in enumerate(bins.pairs(state)):
        axes = tuple(bins.axes[one][2] for one in pair)
        labels = tuple(_parts(groups[bins.edges[one] : bins.edges[one + 1]].tolist(), axis, bins.model.cells)
                       for one, axis in zip(pair, axes, strict=True))  # fmt: skip
        names = tuple(bins.axes[one][0] for one in pair)
        yield _effect(bins, task, state, table, len(bins.axes) + place, names, axes, labels)


def _effect(
    bins: Bins,
    task: Task,
    state: Step,
    table: Floats,
    number: int,
    columns: tuple[str, ...],
    axes: tuple[Axis, ...],
    labels: tuple[tuple[str, ...], ...],
) -> Effect:
    low, high = bins.edges[number], bins.edges[number + 1]
    errors = np.zeros((bins.outputs, high - low))
    for output in range(bins.outputs):
        _, held, _, said, surely = prior_of(bins, task, state, float(state.doubt[2]), output, number)
        # Deviation of the posterior: where little was heard, that of the prior, and no less.
        errors[output] = 1 / np.sqrt(surely * surely / said + held * surely / said)
    title = axes[0].title if len(axes) == 1 else ""
    return Effect(columns, title, axes, labels, state.counts[low:high], table[:, low:high], errors)


def _parts(groups: list[int], axis: Axis, parts: int) -> tuple[str, ...]:
    """What the bins of each part of an axis are called together."""
    made = []
    for part in range(parts):
        own = [label for label, group in zip(axis.labels, groups, strict=True) if group == part]
        if axis.kind == "even" and len(own) > 1:
            made.append(f"{own[0].split(' to ')[0]} to {own[-1].split(' to ')[-1]}")
        else:
            made.append(own[0] if len(own) == 1 else "(others)" if own else "(none)")
    return tuple(made)


def _middle(state: Step, output: int, low: int, high: int) -> float:
    shape = state.mean[output, low:high]
    return float((shape - centred(shape, state.counts[low:high])[0])[0])
