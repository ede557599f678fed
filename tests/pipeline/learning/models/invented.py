"""Invented stays, of which columns tell something alone and together, and models of them that are learned from sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from pipeline.learning.columns.column import Column
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.forest import Forest
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Weights
from pipeline.learning.models.summing import Summing
from pipeline.learning.tasks.task import Task

COLUMNS: dict[str, Any] = {
    "age": {"kind": "numeric", "low": 0, "high": 100},
    "dose": {"kind": "numeric", "low": 0, "high": 1, "unknown": [-1]},
    "unit": {"kind": "categorical", "categories": ["a", "b", "c", "d"]},
    "smokes": {"kind": "boolean"},
    "seen": {"kind": "time", "earliest": "2024-01-01", "latest": "2024-12-31", "zone": "UTC", "parts": ["hour"]},
}


TASKS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary", "column": "y", "positive": ["1"]},
    "classes": {"kind": "classes", "column": "y", "classes": ["0", "1", "2"]},
    "squared": {"kind": "regression", "column": "y", "low": 0, "high": 1},
    "absolute": {"kind": "regression", "column": "y", "low": 0, "high": 1, "loss": "absolute"},
    "poisson": {"kind": "regression", "column": "y", "low": 0, "high": 1, "loss": "poisson"},
}


def spec_of(task: str = "binary") -> FeatureSpec:
    return FeatureSpec(columns={name: Column.of(tree) for name, tree in COLUMNS.items()}, task=Task.of(TASKS[task]))


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    """An effect that is a bend, one that is a step, and one that two columns have only together."""
    draw = np.random.default_rng(seed)
    age, dose = draw.uniform(0, 100, count), draw.uniform(0, 1, count)
    unit, smokes = draw.choice(list("abcd"), count), draw.choice(["True", "False"], count)
    together = np.where((unit == "b") == (smokes == "True"), 1.2, -1.2)
    logit = -1 + 3 * (age / 100 - 0.5) ** 2 * 4 + np.where(dose > 0.5, 1.0, -0.5) + together
    moments = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 8000, count), unit="h")
    return pd.DataFrame(
        {
            "age": age,
            "dose": np.where(draw.random(count) < 0.1, -1, dose),
            "unit": unit,
            "smokes": smokes,
            "seen": moments.astype(str),
            "chance": 1 / (1 + np.exp(-logit)),
            "drawn": draw.random(count),
        }
    )


def targets(frame: pd.DataFrame, task: str) -> Weights:
    if task == "binary":
        return (frame.drawn < frame.chance).to_numpy(dtype=np.float32)
    if task == "classes":
        return np.floor(3 * (0.7 * frame.chance + 0.3 * frame.drawn)).to_numpy(dtype=np.float32)
    return (0.8 * frame.chance + 0.2 * frame.drawn).to_numpy(dtype=np.float32)


def net_of(task: str = "binary", **changes: Any) -> tuple[Summing, FeatureSpec]:
    spec = spec_of(task)
    model = Model.of({"kind": "additive", **changes})
    model.fits(spec.shape)
    net = model.net(spec.shape, spec.task.outputs, 0)
    assert isinstance(net, Summing)
    return net, spec


def learned(
    net: Summing, task: Task, parts: list[tuple[Weights, Weights]], noise: float = 0.0, seed: int = 1
) -> Weights:
    """After all rounds over the parts, with that much noise in each sum."""
    draw, weights = np.random.default_rng(seed), net.initial()
    for step in range(net.rounds):
        total = sum(net.count(task, weights, *part) for part in parts)
        assert len(total) == net.size(task, step)
        total = total + np.rint(draw.normal(0, noise, len(total))).astype(np.int64)
        weights = net.advance(task, weights, total, noise)
    return weights


def auc(scores: Weights, wanted: Weights) -> float:
    return float(roc_auc_score(wanted, scores))


def forest(task: str = "binary", **changes: Any) -> tuple[Forest, FeatureSpec]:
    spec = spec_of(task)
    model = Model.of({"kind": "trees", "trees": 12, "depth": 3, "bins": 16, **changes})
    model.fits(spec.shape)
    net = model.net(spec.shape, spec.task.outputs, 7)
    assert isinstance(net, Forest)
    return net, spec
