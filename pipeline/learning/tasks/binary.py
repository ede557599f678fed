"""Yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.query import Query
from pipeline.learning.queries.scores import Scores, sigmoid
from pipeline.learning.tasks.task import Task
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Binary(Task):
    """Whether `column` holds one of `positive`. The model says one number: the logit of yes."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["binary"] = Field("binary", description="Yes or no.")
    positive: tuple[str, ...] = Field(min_length=1, description="Values that count as the positive class.")

    measures: ClassVar[Mapping[str, bool]] = {
        "roc_auc": True,
        "pr_auc": True,
        "accuracy": True,
        "precision": True,
        "recall": True,
    }

    @property
    def declared(self) -> list[object]:
        return [self.column, sorted(map(text_of, self.positive))]

    @property
    def said(self) -> str:
        return f"whether {self.column} is in ({', '.join(self.positive)})"

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, values: pd.Series) -> Matrix:
        """1 for the positive class, else 0."""
        return self.grouped(values).astype(np.float32)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs.squeeze(1), targets, reduction="none")

    def predictions(self, outputs: Matrix) -> Floats:
        """Probability of the positive class [rows, 1]."""
        return sigmoid(outputs)

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
        return 2

    @property
    def group_names(self) -> list[str]:
        return [f"not {self._yes}", self._yes]

    @property
    def _yes(self) -> str:
        return f"{self.column}={' or '.join(self.positive)}"

    @property
    def broken(self) -> int | None:
        """What is not positive is negative."""
        return None

    def grouped(self, values: pd.Series) -> Integers:
        names = {text_of(name) for name in self.positive}
        return np.fromiter((text in names for text in texts(values)), dtype=np.int64, count=len(values))
