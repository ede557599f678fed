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
VARIOUS = 30
"""Outcomes, at least, that are not the most frequent one."""
CERTAIN = 4.0
"""Standard errors by which a version does worse than it did: looked at often, so they are many."""


@dataclass(frozen=True)
class Quality:
    """Of one version. measured: by metric. bias: mean prediction less mean outcome, where both are one number.

    penalty: mean, of what is `called` so. various: outcomes that are not the most frequent one.
    """

    version: int
    outcomes: int
    various: int
    penalty: float
    called: str
    measured: Mapping[str, Measured]
    bias: float | None


def task_of(version: Registered) -> Task:
    """What a version was trained for. Raises VersionRefused."""
    return FeatureSpec.model_validate_json(version.read("features.json"), context=INSTALLED).task


def qualities(tasks: Mapping[int, Task], outcomes: Sequence[Outcome]) -> dict[int, Quality]:
    """Of each version with a known task that outcomes tell of, also of those that were only asked too."""
    by_version: dict[int, list[Outcome]] = {}
    for one in outcomes:
        for version in one.told:
            if version in tasks:
                by_version.setdefault(version, []).append(one)
    return {version: _quality(tasks[version], version, found) for version, found in sorted(by_version.items())}


def _quality(task: Task, version: int, found: Sequence[Outcome]) -> Quality:
    told = np.array([one.told[version] for one in found], dtype=np.float64)
    targets = np.array([one.target for one in found], dtype=np.float32)
    question = task.question(BINS)
    measured = question.read(question.count(Rows(targets=targets), told), 0.0)
    return Quality(
        version=version,
        outcomes=len(found),
        various=len(found) - int(np.unique(targets, return_counts=True)[1].max()),
        penalty=float(np.mean([one.penalties[version] for one in found])),
        called=task.penalty,
        measured={metric: measured[metric] for metric in task.measures if metric in measured},
        bias=float(told[:, 0].mean() - targets.mean()) if told.shape[1] == 1 else None,
    )


def decayed(task: Task, version: Registered, quality: Quality, margin: float) -> str:
    """Why a version does worse than when it was registered, by more than `margin` and what chance explains; empty: it
    does not."""
    metric = task.headline
    then, now = version.metrics.get(metric), quality.measured.get(metric)
    if then is None or now is None or quality.various < VARIOUS:
        return ""  # outcomes that are nearly all the same say nothing, and how little is not in their error
    error = CERTAIN * math.hypot(version.errors.get(metric, 0.0), now.error)
    lost = then - now.value if task.measures[metric] else now.value - then
    if lost <= margin + error:
        return ""
    return (
        f"v{version.version}'s {metric} is {now.value:.3f} on {quality.outcomes} outcomes, and was {then:.3f}: worse "
        f"by more than {margin:g} and {error:.2g} of chance"
    )
