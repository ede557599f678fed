"""How versions do on what became of their predictions: the metrics of the task, as at the evaluation, without noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.kinds import INSTALLED
from pipeline.learning.features import FeatureSpec
from pipeline.learning.queries.query import Measured, Rows
from pipeline.learning.tasks.task import Task
from pipeline.store.registry import Registered
from server.evidence.outcomes import Outcome

BINS = 100
CERTAIN = 4.0
"""Standard errors by which a version does worse than it did: looked at often, so they are many."""


@dataclass(frozen=True)
class Quality:
    """Of one version. measured: by metric. bias: mean prediction less mean outcome, where both are one number."""

    version: int
    outcomes: int
    penalty: float
    measured: Mapping[str, Measured]
    bias: float | None


def task_of(version: Registered) -> Task:
    """What a version was trained for. Raises VersionRefused."""
    return FeatureSpec.model_validate_json(version.read("features.json"), context=INSTALLED).task


def qualities(task: Task, outcomes: Sequence[Outcome]) -> dict[int, Quality]:
    """Of each version that outcomes tell of, also of those that were only asked too."""
    by_version: dict[int, list[Outcome]] = {}
    for one in outcomes:
        for version in one.told:
            by_version.setdefault(version, []).append(one)
    return {version: _quality(task, version, found) for version, found in sorted(by_version.items())}


def _quality(task: Task, version: int, found: Sequence[Outcome]) -> Quality:
    told = np.array([one.told[version] for one in found], dtype=np.float64)
    targets = np.array([one.target for one in found], dtype=np.float32)
    question = task.question(BINS)
    measured = question.read(question.count(Rows(targets=targets), told), 0.0)
    return Quality(
        version=version,
        outcomes=len(found),
        penalty=float(np.mean([one.penalties[version] for one in found])),
        measured={metric: measured[metric] for metric in task.measures if metric in measured},
        bias=float(told[:, 0].mean() - targets.mean()) if told.shape[1] == 1 else None,
    )


def decayed(task: Task, version: Registered, quality: Quality, margin: float) -> str:
    """Why a version does worse than when it was registered, by more than `margin` and what chance explains; empty: it
    does not."""
    metric = task.headline
    then, now = version.metrics.get(metric), quality.measured.get(metric)
    if then is None or now is None:
        return ""
    error = CERTAIN * math.hypot(version.errors.get(metric, 0.0), now.error)
    lost = then - now.value if task.measures[metric] else now.value - then
    if lost <= margin + error:
        return ""
    return (
        f"v{version.version}'s {metric} is {now.value:.3f} on {quality.outcomes} outcomes, and was {then:.3f}: worse "
        f"by more than {margin:g} and {error:.2g} of chance"
    )
