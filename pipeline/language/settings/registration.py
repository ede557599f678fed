"""What a version must reach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.learning.tasks.task import Task


class RegistrationConfig(Frozen):
    """What a version must reach to become champion."""

    least: dict[str, float] = Field(
        default_factory=dict,
        description="Metric -> value: a version that is worse in one is registered but not promoted.",
    )
    min_roc_auc: float | None = Field(
        None, ge=0, le=1, description="Short for least: {roc_auc: ...}. Default: 0.5, where that is measured."
    )
    max_regression: float = Field(
        0.01,
        ge=0,
        description="A version that is worse in the headline metric than the champion, or than the best ever blessed, "
        "by more than this and the error of the difference, is not promoted.",
    )
    max_error: float = Field(
        0.1,
        gt=0,
        description="A headline metric with a larger standard error is unknown, and its version is not promoted.",
    )
    promotion: Literal["blessed", "earned"] = Field(
        "blessed",
        description="When a blessed version becomes champion. blessed: at once. earned: it is challenger until "
        "outcomes of its own answers have shown that it is better (`sottovoce watch`), and is not held against what "
        "the champion reached on other rows, at another time. The first is champion at once.",
    )
    weaker_privacy: bool = Field(
        False, description="Whether a version may replace a champion that promises more: a person's decision."
    )

    def thresholds(self, task: Task) -> dict[str, float]:
        """Metric -> the value that it must reach. Raises ValueError for one that the task does not measure."""
        wanted = dict(self.least)
        if self.min_roc_auc is not None or "roc_auc" in task.measures:
            wanted.setdefault("roc_auc", 0.5 if self.min_roc_auc is None else self.min_roc_auc)
        for metric in wanted:
            if metric not in task.measures:
                raise ValueError(
                    f"registration: task {task.kind} does not measure {metric}, but {', '.join(task.measures)}"
                )
        return wanted
