"""Yes or no."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.query import Query
from pipeline.learning.queries.scores import Scores, sigmoid
from pipeline.learning.tasks.task import Beginning, Task, certain, log
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd
    import torch

UNKNOWN = 2
"""The group of outcomes that say neither yes nor no."""


class Binary(Task):
    """Whether `column` holds one of `positive`. The model says one number: the logit of yes.

    An outcome that is missing, or none of those declared, is unknown: it is learned nothing from, and the checks count
    it.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["binary"] = Field("binary", description="Yes or no.")
    positive: tuple[str, ...] = Field(min_length=1, description="Values that count as the positive class.")
    negative: tuple[str, ...] = Field(
        (), description="Values that count as the negative class; none: all others but a missing one."
    )

    measures: ClassVar[Mapping[str, bool]] = {
        "roc_auc": True,
        "pr_auc": True,
        "accuracy": True,
        "precision": True,
        "recall": True,
    }
    penalty: ClassVar[str] = "Brier score"

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if both := sorted(set(map(text_of, self.positive)) & set(map(text_of, self.negative))):
            raise ValueError(f"a value cannot be positive and negative: {', '.join(both)}")
        return self

    @property
    def declared(self) -> list[object]:
        negative = [sorted(map(text_of, self.negative))] if self.negative else []
        return [self.column, sorted(map(text_of, self.positive)), *negative]

    @property
    def said(self) -> str:
        rather = f" rather than in ({', '.join(self.negative)})" if self.negative else ""
        return f"whether {self.column} is in ({', '.join(self.positive)}){rather}"

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, values: pd.Series) -> Matrix:
        """1 for the positive class, 0 for the negative, NaN where nobody knows."""
        groups = self.grouped(values)
        return np.where(groups == UNKNOWN, np.nan, groups).astype(np.float32)

    def outcomes(self, chances: Floats) -> Matrix:
        return (chances < 0.5).astype(np.float32)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        known = targets.isfinite()
        each: torch.Tensor = binary_cross_entropy_with_logits(
            outputs.squeeze(1), targets.nan_to_num(0.0), reduction="none"
        )
        return each * known

    @property
    def meaning(self) -> Literal["logit"]:
        return "logit"

    def moments(self, targets: Matrix) -> Floats:
        return targets.astype(np.float64)[:, None]

    def beginning(self, means: Floats) -> Beginning:
        share = certain(float(means[0]))
        return Beginning(np.array([log(share / (1 - share))]), math.sqrt(share * (1 - share)), 1.0)

    def curvature(self, means: Floats, away: Floats) -> Floats:
        shares = np.clip(certain(float(means[0])) + away, 0.0, 1.0)
        return np.asarray(shares * (1 - shares))

    def residuals(self, outputs: Floats, targets: Matrix) -> Floats:
        return targets.astype(np.float64)[:, None] - sigmoid(outputs)

    @property
    def steepest(self) -> float:
        return 0.25

    def steepness(self, outputs: Floats) -> Floats:
        chances = sigmoid(outputs)
        return np.asarray(chances * (1 - chances))

    def predictions(self, outputs: Matrix) -> Floats:
        """Probability of the positive class [rows, 1]."""
        return sigmoid(outputs)

    def penalties(self, predictions: Floats, targets: Matrix) -> Floats:
        return np.asarray((predictions[:, 0] - targets.astype(np.float64)) ** 2)

    def question(self, bins: int) -> Query:
        return Scores(bins=bins)

    def answers(self, outputs: Matrix, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
        chances = [round(chance, 6) for chance in self.predictions(outputs)[:, 0].tolist()]
        return [{"probability": chance, "positive": chance >= 0.5} for chance in chances]

    @property
    def answer_schema(self) -> dict[str, object]:
        probability = {"type": "number", "minimum": 0, "maximum": 1, "description": "Of the positive class."}
        positive = {"type": "boolean", "description": "Whether the probability is at least one half."}
        return {"type": "object", "properties": {"probability": probability, "positive": positive}}

    @property
    def groups(self) -> int:
        """Negative, positive, unknown."""
        return 3

    @property
    def group_names(self) -> list[str]:
        return [f"not {self._yes}", self._yes, f"{self.column} unknown"]

    @property
    def _yes(self) -> str:
        return f"{self.column}={' or '.join(self.positive)}"

    @property
    def broken(self) -> int | None:
        return UNKNOWN

    def grouped(self, values: pd.Series) -> Integers:
        known = {text_of(name): 0 for name in self.negative} | {text_of(name): 1 for name in self.positive}
        others = UNKNOWN if self.negative else 0
        known.setdefault("", UNKNOWN)
        return np.fromiter((known.get(text, others) for text in texts(values)), dtype=np.int64, count=len(values))
