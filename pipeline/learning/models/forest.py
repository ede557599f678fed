"""Trees that are learned one after the other, each level or each tree from one sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.learning.columns.axis import Axis
from pipeline.learning.models.boosted import document
from pipeline.learning.models.net import BOOSTED, Weights
from pipeline.learning.models.splits import Candidates, Sums, cuts
from pipeline.learning.models.summing import NORM, Parts, Summing
from pipeline.learning.models.trees import Trees
from pipeline.learning.shape import Shape
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

LARGEST, BESIDE = 1.0, 0.25
"""What the residual of a record counts as at most, and its curvature beside it."""


@dataclass
class Grown:
    """What is known; the arrays are parts of one vector. Of each tree and output the nodes by level, and its leaves: a
    node without a question sends everybody left.

    seen [1]: sums so far. start [outputs]: what a model says that knows no column. counts [bins]. feature, threshold
    [trees, outputs, nodes]. value [trees, outputs, leaves].
    """

    seen: Floats
    start: Floats
    counts: Floats
    feature: Floats
    threshold: Floats
    value: Floats


@dataclass(frozen=True)
class Forest(Summing):
    """The model for these features and so many outputs. seed: of the splits that are drawn."""

    model: Trees
    shape: Shape
    said: int
    seed: int = 0

    # -- what there is ------------------------------------------------------------------------------------------------
    @cached_property
    def axes(self) -> tuple[tuple[int, int, int, Axis], ...]:
        """Of every column: where its features begin, how many they are, and where its bins begin."""
        made, low = [], 0
        for part in self.shape.parts:
            for axis in part.column.axes(self.model.bins) if part.column else ():
                made.append((part.at, part.width, low, axis))
                low += axis.bins
        return tuple(made)

    @cached_property
    def candidates(self) -> Candidates:
        return Candidates.of([cut for at, _, low, axis in self.axes for cut in cuts(axis, at, low)])

    @property
    def bins(self) -> int:
        return sum(axis.bins for _, _, _, axis in self.axes)

    @cached_property
    def parts(self) -> Parts:
        each, nodes = (self.model.trees, self.said), 2**self.model.depth - 1
        return Parts(
            {
                "seen": (1,),
                "start": (self.said,),
                "counts": (self.bins,),
                "feature": (*each, nodes),
                "threshold": (*each, nodes),
                "value": (*each, nodes + 1),
            }
        )

    @property
    def rounds(self) -> int:
        return self.model.sums

    def read(self, weights: Weights) -> Grown:
        return Grown(**self.parts.read(weights))

    def place(self, step: int) -> tuple[int, int]:
        """The tree and the level that the sum after `step` others is for; drawn trees are asked for their leaves."""
        levels = self.rounds // self.model.trees
        tree, level = divmod(step - 1, levels)
        return tree, self.model.depth if self.model.splits == "random" else level

    def size(self, task: Task, step: int, number: int | None = None) -> int:
        if step == 0:
            return self.bins + len(task.moments(np.zeros(1, dtype=np.float32))[0])
        _, level = self.place(step)
        return int(2 * self.said * 2**level * (1 if self.model.splits == "random" else self.bins))

    # -- at the client ------------------------------------------------------------------------------------------------
    def count(
        self, task: Task, weights: Weights, features: Weights, targets: Weights, number: int | None = None
    ) -> Integers:
        step, grown = self.steps(weights), self.read(weights)
        there = np.isfinite(targets)
        features, targets = features[there], targets[there]
        if step == 0:
            each = self._each
            moments = np.rint(task.moments(targets) * each).astype(np.int64).sum(axis=0)
            return np.concatenate(
                [np.bincount(self._binned(features).reshape(-1), minlength=self.bins) * each, moments]
            )
        tree, level = self.place(step)
        told = self._told(grown, features, tree)
        residuals = np.clip(task.residuals(told, targets), -LARGEST, LARGEST)
        steep = np.clip(task.steepness(told) / task.steepest, 0.0, 1.0) * BESIDE
        whole = [np.rint(values * self._unit).astype(np.int64) for values in (residuals, steep)]
        parts = []
        for output in range(self.said):
            node = self._node(grown, features, tree, output, level)
            cells, wide = node[:, None], 1
            if self.model.splits == "best":
                cells, wide = node[:, None] * self.bins + self._binned(features), self.bins
            for numbers in whole:
                own = np.repeat(numbers[:, output], cells.shape[1])  # whole numbers below 2^53: exact as floats
                parts.append(np.bincount(cells.reshape(-1), weights=own, minlength=2**level * wide))
        return np.concatenate(parts).astype(np.int64)

    @property
    def _each(self) -> int:
        return math.floor(NORM / math.sqrt(len(self.axes) + 2))

    @property
    def _unit(self) -> float:
        """What a residual of one is in a sum: a record adds one residual and one curvature an output to each column, or
        to one leaf."""
        places = self.said * (1 if self.model.splits == "random" else len(self.axes))
        return (NORM - 0.5 * math.sqrt(2 * places)) / math.sqrt(places * (LARGEST**2 + BESIDE**2))

    def _binned(self, features: Weights) -> Integers:
        found = np.empty((len(features), len(self.axes)), dtype=np.int64)
        for number, (at, width, low, axis) in enumerate(self.axes):
            found[:, number] = axis.of(features[:, at : at + width]) + low
        return found

    def _node(self, grown: Grown, features: Weights, tree: int, output: int, level: int) -> Integers:
        """Of that level, from the left, each record is in."""
        node = np.zeros(len(features), dtype=np.int64)
        rows = np.arange(len(features))
        for above in range(level):
            at = node + 2**above - 1
            # Whoever names weights may name any feature: an error would say that a record came by.
            feature = np.clip(grown.feature[tree, output, at], 0, features.shape[1] - 1).astype(np.int64)
            threshold = grown.threshold[tree, output, at]
            node = 2 * node + (features[rows, feature] >= threshold)
        return node

    def _told(self, grown: Grown, features: Weights, trees: int) -> Floats:
        """By the first trees [rows, outputs]."""
        made = np.tile(grown.start, (len(features), 1))
        for tree in range(trees):
            for output in range(self.said):
                leaf = self._node(grown, features, tree, output, self.model.depth)
                made[:, output] += grown.value[tree, output, leaf]
        return made

    # -- at everybody who opened the sum ------------------------------------------------------------------------------
    def advance(
        self, task: Task, weights: Weights, total: Integers, noise: float, number: int | None = None
    ) -> Weights:
        step, grown = self.steps(weights), self.read(weights)
        if step == 0:
            self._begin(task, grown, total / self._each)
        else:
            tree, level = self.place(step)
            sums, variance = total.reshape(self.said, 2, -1) / self._unit, (noise / self._unit) ** 2
            sums[:, 1] *= task.steepest / BESIDE
            for output in range(self.said):
                grow = self._leaves if self.model.splits == "random" else self._level
                grow(grown, sums[output], variance, tree, output, level)
        grown.seen[0] = step + 1
        self._draw(grown, step)
        return self.parts.written(grown)

    def _begin(self, task: Task, grown: Grown, found: Floats) -> None:
        grown.counts[:] = np.maximum(found[: self.bins], 0.0)
        rows = [float(np.cumsum(found[low : low + axis.bins])[-1]) for _, _, low, axis in self.axes]
        fewest = min(range(len(rows)), key=lambda number: self.axes[number][3].bins)
        grown.start[:] = task.beginning(found[self.bins :] / max(rows[fewest], 1.0)).outputs

    def _draw(self, grown: Grown, tree: int) -> None:
        """The questions of the next tree, where they are drawn."""
        if self.model.splits == "random" and tree < self.model.trees:
            for output in range(self.said):
                for node in range(2**self.model.depth - 1):
                    cut = self.candidates.drawn(grown.counts, f"{self.seed} {tree} {output} {node}")
                    grown.feature[tree, output, node], grown.threshold[tree, output, node] = cut.feature, cut.threshold

    def _leaves(self, grown: Grown, sums: Floats, noise: float, tree: int, output: int, level: int) -> None:
        for leaf in range(2**level):
            found = Sums(float(sums[0, leaf]), float(sums[1, leaf]))
            grown.value[tree, output, leaf] = self._value(found, noise)

    def _level(self, grown: Grown, sums: Floats, noise: float, tree: int, output: int, level: int) -> None:
        """The best question of every node of a level; what they leave is the value of the leaves so far."""
        wide = self.bins
        last = level + 1 == self.model.depth
        for node in range(2**level):
            own = sums[:, node * wide : (node + 1) * wide]
            found = self.candidates.best(own[0], own[1], self.model.l2)
            at = 2**level - 1 + node
            if found is None:
                low, high = self.axes[0][2], self.axes[0][2] + self.axes[0][3].bins
                whole = Sums(*(float(np.cumsum(row[low:high])[-1]) for row in own))
                grown.threshold[tree, output, at], sides = 3e38, (whole, whole)
            else:
                cut, *both = found
                grown.feature[tree, output, at], grown.threshold[tree, output, at] = cut.feature, cut.threshold
                sides = (both[0], both[1])
            if last:
                for side in (0, 1):
                    grown.value[tree, output, 2 * node + side] = self._value(sides[side], noise)

    def _value(self, sums: Sums, noise: float) -> float:
        # Every tree says a part of the same; so the noise of all of them together is what holds each back.
        return self.model.learning_rate * sums.value(self.model.l2, noise / self.model.trees)

    # -- what it says -------------------------------------------------------------------------------------------------
    def outputs(self, weights: Weights, features: Weights) -> Weights:
        return self._told(self.read(weights), features, self.model.trees).astype(np.float32)

    def told(self, task: Task, weights: Weights) -> Mapping[str, dict[str, Any]]:
        grown = self.read(weights)
        made = document(self.shape, task.meaning, grown.start.tolist(), grown.feature, grown.threshold, grown.value)
        return {BOOSTED: made}
