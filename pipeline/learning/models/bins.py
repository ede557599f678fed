"""Where the bins of every column, and the cells of every pair, lie side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from pipeline.learning.columns.axis import Axis
from pipeline.learning.columns.column import Column
from pipeline.learning.models.additive import Additive
from pipeline.learning.models.binned import Step, centred, grouped
from pipeline.learning.models.net import Weights
from pipeline.learning.models.summing import Parts
from pipeline.learning.shape import Shape
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

USUAL = 1.5
"""Clipping norm over the size of a usual record's residuals."""
SCREENED, EXTREME = 64, 3.0
"""Columns among which pairs are looked for, and deviations beyond which an effect counts as no larger."""


@lru_cache(maxsize=4096)
def _axes(column: Column, fine: int) -> tuple[Axis, ...]:
    """Made once: thousands of names are many labels."""
    return column.axes(fine)


@dataclass(frozen=True)
class Bins:
    """Those of a model over features of this shape."""

    model: Additive
    shape: Shape
    outputs: int

    @cached_property
    def axes(self) -> tuple[tuple[str, int, Axis], ...]:
        """Of every column, its name and where its features begin."""
        return tuple(
            (part.name, part.at, axis)
            for part in self.shape.parts
            for axis in (_axes(part.column, self.model.bins) if part.column else ())
        )

    @cached_property
    def edges(self) -> list[int]:
        """Where the bins of each axis, then the cells of each pair, begin; and the end."""
        sizes = [axis.bins for _, _, axis in self.axes] + [self.model.cells**2] * self.found
        return [0, *np.cumsum(sizes).tolist()]

    @property
    def found(self) -> int:
        """Pairs."""
        pairs = self.model.pairs
        possible = len(self.axes) * (len(self.axes) - 1) // 2
        return min(pairs, possible) if isinstance(pairs, int) else len(pairs)

    @property
    def declared(self) -> list[tuple[int, int]]:
        """The pairs that are named, as axes; none: they are looked for."""
        first = {name: number for number, (name, _, _) in reversed(list(enumerate(self.axes)))}
        pairs = self.model.pairs
        return [] if isinstance(pairs, int) else [(first[one], first[other]) for one, other in pairs]

    @property
    def bins(self) -> int:
        return self.edges[len(self.axes)]

    @property
    def cells(self) -> int:
        """Bins, and cells of pairs."""
        return self.edges[-1]

    @cached_property
    def parts(self) -> Parts:
        """How a `Step` lies in a vector."""
        each = (self.outputs, self.cells)
        return Parts(
            {
                "seen": (1,),
                "total": (1,),
                "sums": (max(2, self.outputs),),
                "start": (self.outputs,),
                "doubt": (3,),
                "pairs": (self.found, 2),
                "counts": (self.cells,),
                "curves": each,
                "shapes": each,
                "speed": each,
                "mean": each,
            }
        )

    def read(self, weights: Weights) -> Step:
        return Step(**self.parts.read(weights))

    def places(self, features: Weights, state: Step | None) -> Integers:
        """The bin of every axis [rows, axes], and where a state is given the cell of every pair."""
        found = np.empty((len(features), len(self.axes) + (self.found if state else 0)), dtype=np.int64)
        for number, (name, at, axis) in enumerate(self.axes):
            found[:, number] = axis.of(features[:, at : at + self.width(name)]) + self.edges[number]
        if state:
            groups = self.groups(state)
            for number, (one, other) in enumerate(self.pairs(state)):
                cell = groups[found[:, one]] * self.model.cells + groups[found[:, other]]
                found[:, len(self.axes) + number] = cell + self.edges[len(self.axes) + number]
        return found

    def width(self, name: str) -> int:
        return next(part.width for part in self.shape.parts if part.name == name)

    def fullest(self, state: Step) -> Integers:
        return np.array(
            [
                low + int(np.argmax(state.counts[low:high]))
                for low, high in zip(self.edges, self.edges[1:], strict=False)
            ],
            dtype=np.int64,
        )

    def groups(self, state: Step) -> Integers:
        """The part of its axis that each bin is in, where pairs of parts are told apart."""
        made = [
            grouped(state.counts[self.edges[n] : self.edges[n + 1]], self.model.cells, axis.ordered)
            for n, (_, _, axis) in enumerate(self.axes)
        ]
        return np.concatenate(made)

    def pairs(self, state: Step) -> list[tuple[int, int]]:
        """As axes, once they are known."""
        if self.declared:
            return self.declared
        if not state.pairs.any():
            return []
        # Whoever names weights may name any axis.
        named = np.clip(state.pairs, 0, len(self.axes) - 1).astype(np.int64)
        return [(int(one), int(other)) for one, other in named]

    def clipping(self, task: Task, state: Step, axes: int) -> float:
        """Norm of usual records' residuals over so many axes and pairs, where those in the fullest bin of an axis add
        nothing to it."""
        rows, usual = state.rows, 1.0
        for number in range(axes):
            own = state.counts[self.edges[number] : self.edges[number + 1]]
            usual += 1 - min(max(float(own.max()) / rows, 0.0), 1.0)
        return USUAL * math.sqrt(usual) * task.beginning(state.means).size

    def effects(self, state: Step) -> tuple[Floats, list[int]]:
        """Effects [outputs, bins] with a deviation of one over the records, and the axes with the largest ones."""
        made, spread = np.zeros((self.outputs, self.bins)), []
        for number in range(len(self.axes)):
            low, high = self.edges[number], self.edges[number + 1]
            total = 0.0
            for output in range(self.outputs):
                effect, deviation = centred(state.mean[output, low:high], state.counts[low:high])
                total += deviation
                if deviation > 1e-3:
                    made[output, low:high] = np.clip(effect / deviation, -EXTREME, EXTREME)
            spread.append(total)
        largest = sorted(range(len(self.axes)), key=lambda number: (-spread[number], number))
        return made, sorted(largest[:SCREENED])
