"""Shapes of columns and of pairs of them, learned by boosting all of them at once from noisy sums.

The first sums count the records of each bin, and tell where to begin. In every other one each record adds its residual
to one bin of every column, clipped to a norm that usual records have; what is missing where most records lie follows
from the sum of all residuals. A step is a Newton step of each bin by itself, shrunk as far as the known noise makes it
doubtful (a normal prior of the effect, and of the difference of neighbours), and what answers is the mean of the later
ones, in which noise cancels. Pairs are found by one sum of the products of two columns' own effects, with the residual.

Cyclic boosting of shapes: Lou, Caruana and Gehrke 2012; with noise in each sum: Nori et al. 2021 (DP-EBM). Here all
columns are boosted at once, so that a round is one question, and the mean of iterates is Polyak and Juditsky's (1992).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.learning.models.adding import each_of, levels_of, products_of, residuals_of
from pipeline.learning.models.additive import Additive
from pipeline.learning.models.binned import Step
from pipeline.learning.models.bins import SCREENED, Bins
from pipeline.learning.models.boosting import counted, levelled, screened, stepped
from pipeline.learning.models.effects import centred_table, effects_of, level_of
from pipeline.learning.models.net import TOLD, Weights
from pipeline.learning.models.ordering import Stage, stage_of
from pipeline.learning.models.shapes_graph import graph_of
from pipeline.learning.models.summing import Parts, Summing
from pipeline.learning.shape import Shape
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

OTHERS = "shapes.onnx"
"""The file of a version for others; the endpoint adds tables by itself, which is faster and can be explained."""


@dataclass(frozen=True)
class Shapes(Summing):
    """The model for these features and so many outputs. It begins with nothing, so no seed decides anything."""

    model: Additive
    shape: Shape
    said: int
    seed: int = 0

    @cached_property
    def bins(self) -> Bins:
        return Bins(self.model, self.shape, self.said)

    @property
    def parts(self) -> Parts:
        return self.bins.parts

    @property
    def rounds(self) -> int:
        return self.model.rounds

    def stage(self, step: int, number: int | None = None) -> Stage:
        """What the sum after `step` others is for, in round `number`."""
        return stage_of(
            step, number or step + 1, self.rounds, pairs=bool(self.bins.found), declared=bool(self.bins.declared)
        )

    def size(self, task: Task, step: int, number: int | None = None) -> int:
        what, bins = self.stage(step, number).what, self.bins
        if what == "screen":
            columns = min(len(bins.axes), SCREENED)
            return columns * (columns - 1) // 2
        if what in ("counts", "cells"):
            return bins.cells + len(task.moments(np.zeros(1, dtype=np.float32))[0])
        return self.said if what == "level" else self.said * (bins.cells + 1)

    def count(
        self, task: Task, weights: Weights, features: Weights, targets: Weights, number: int | None = None
    ) -> Integers:
        bins, what, state = self.bins, self.stage(self.steps(weights), number).what, self.bins.read(weights)
        there = np.isfinite(targets)
        if not there.all():
            features, targets = features[there], targets[there]
        both = what in ("cells", "both") or (what == "level" and bool(bins.pairs(state)))
        places = bins.places(features, state if both else None)
        if what in ("counts", "cells"):
            kept = places if what == "counts" else places[:, len(bins.axes) :]
            each = each_of(kept.shape[1])
            moments = np.rint(task.moments(targets) * each).astype(np.int64).sum(axis=0)
            told = np.bincount(kept.reshape(-1), minlength=bins.cells) * each
            return np.concatenate([told, moments if what == "counts" else 0 * moments])
        outputs = _added(state, state.shapes if what in ("shapes", "both") else state.mean, places)
        residuals = task.residuals(outputs, targets)
        if what == "level":
            return levels_of(residuals)
        return (products_of if what == "screen" else residuals_of)(bins, task, state, places, residuals)

    def advance(
        self, task: Task, weights: Weights, total: Integers, noise: float, number: int | None = None
    ) -> Weights:
        bins, step, state = self.bins, self.steps(weights), self.bins.read(weights)
        stage = self.stage(step, number)
        if stage.what == "counts":
            counted(bins, task, state, total, noise, stage)
        elif stage.what == "screen":
            screened(bins, state, total)
        elif stage.what == "cells":
            each = each_of(bins.found)
            state.counts[bins.bins :] = np.maximum(total[bins.bins : bins.cells] / each, 0.0)
            state.doubt[1] = noise / each
        elif stage.what == "level":
            levelled(task, state, total)
        else:
            stepped(bins, task, state, total, noise, stage)
        state.seen[0] = step + 1
        return bins.parts.written(state)

    def outputs(self, weights: Weights, features: Weights) -> Weights:
        state = self.bins.read(weights)
        places = self.bins.places(features, state if self.bins.pairs(state) else None)
        return np.asarray(_added(state, state.mean, places).astype(np.float32))

    def told(self, task: Task, weights: Weights) -> Mapping[str, dict[str, Any]]:
        state = self.bins.read(weights)
        level = np.round(level_of(self.bins, state), 6).tolist()
        effects = [effect.document for effect in effects_of(self.bins, task, state)]
        return {TOLD: {"level": level, "effects": effects}}

    def contributions(self, weights: Weights, features: Weights) -> dict[str, Weights]:
        bins, state = self.bins, self.bins.read(weights)
        pairs = bins.pairs(state)
        places, table = bins.places(features, state if pairs else None), centred_table(bins, state)
        names = [name for name, _, _ in bins.axes]
        names += [f"{bins.axes[one][0]} and {bins.axes[other][0]}" for one, other in pairs]
        made = {"(level)": np.tile(level_of(bins, state), (len(features), 1)).astype(np.float32)}
        for number, name in enumerate(names):
            own = table[:, places[:, number]].T.astype(np.float32)
            made[name] = made[name] + own if name in made else own
        return made

    def files(self, weights: Weights) -> Mapping[str, bytes]:
        return {**super().files(weights), OTHERS: graph_of(self.bins, self.bins.read(weights))}


def _added(state: Step, table: Floats, places: Integers) -> Floats:
    """The beginning and the effects of all bins that a record is in [rows, outputs]."""
    return np.asarray(state.start + table[:, places].sum(axis=2).T)
