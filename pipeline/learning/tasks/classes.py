"""One of several classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.confusion import Confusion, softmax
from pipeline.learning.queries.query import Query
from pipeline.learning.tasks.task import Beginning, Task, certain, log
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Classes(Task):
    """Which of the declared `classes` is in `column`. The model says one logit a class."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["classes"] = Field(description="One of several classes.")
    classes: tuple[str, ...] = Field(min_length=2, max_length=256, description="All values that the column may hold.")

    measures: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "macro_f1": True,
        "macro_roc_auc": True,
        "log_loss": False,
        "macro_precision": True,
        "macro_recall": True,
    }
    penalty: ClassVar[str] = "half Brier score"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [text_of(name) for name in self.classes]  # 1 and 1.0 are one cell
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"classes must be distinct; twice: {', '.join(twice)}")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.column, [text_of(name) for name in self.classes]]

    @property
    def said(self) -> str:
        return f"which of ({', '.join(self.classes)}) {self.column} is"

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def targets(self, values: pd.Series) -> Matrix:
        """The number of the class; NaN where it is none that was declared."""
        groups = self.grouped(values)
        return np.where(groups < len(self.classes), groups, np.nan).astype(np.float32)

    def outcomes(self, chances: Floats) -> Matrix:
        return np.floor(chances * len(self.classes)).astype(np.float32)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        from torch.nn.functional import cross_entropy

        known = targets.isfinite()
        classes = targets.nan_to_num(0.0).long()
        return cross_entropy(outputs, classes, reduction="none") * known

    @property
    def meaning(self) -> Literal["classes"]:
        return "classes"

    def moments(self, targets: Matrix) -> Floats:
        return np.asarray(targets[:, None] == np.arange(len(self.classes)), dtype=np.float64)

    def beginning(self, means: Floats) -> Beginning:
        shares = [certain(share) for share in means.tolist()]
        size = math.sqrt(math.fsum(share * (1 - share) for share in shares))
        return Beginning(np.array([log(share) for share in shares]), size, 1.0)

    def curvature(self, means: Floats, away: Floats) -> Floats:
        first = np.array([certain(share) for share in means.tolist()])
        shares = np.clip((first + away.T).T, 0.0, 1.0)
        return np.asarray(shares * (1 - shares))

    def residuals(self, outputs: Floats, targets: Matrix) -> Floats:
        return self.moments(targets) - softmax(outputs)

    @property
    def steepest(self) -> float:
        return 0.25

    def steepness(self, outputs: Floats) -> Floats:
        chances = softmax(outputs)
        return np.asarray(chances * (1 - chances))

    def predictions(self, outputs: Matrix) -> Floats:
        """Probability of each class [rows, classes]."""
        return softmax(outputs)

    def penalties(self, predictions: Floats, targets: Matrix) -> Floats:
        true = targets[:, None] == np.arange(len(self.classes))
        found = ((predictions - true) ** 2).sum(axis=1) / 2
        return np.where(np.isfinite(targets), found, np.nan)

    def question(self, bins: int) -> Query:
        return Confusion(classes=self.classes, bins=bins)

    def answers(self, outputs: Matrix, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
        chances = self.predictions(outputs)
        return [
            {
                "class": self.classes[best],
                "probabilities": dict(zip(self.classes, (round(chance, 6) for chance in row), strict=True)),
            }
            for best, row in zip(chances.argmax(axis=1).tolist(), chances.tolist(), strict=True)
        ]

    @property
    def answer_schema(self) -> dict[str, object]:
        chance = {"type": "number", "minimum": 0, "maximum": 1}
        return {
            "type": "object",
            "properties": {
                "class": {"type": "string", "enum": list(self.classes), "description": "The likeliest."},
                "probabilities": {"type": "object", "properties": dict.fromkeys(self.classes, chance)},
            },
        }

    @property
    def groups(self) -> int:
        return len(self.classes) + 1

    @property
    def group_names(self) -> list[str]:
        return [*(f"{self.column}={name}" for name in self.classes), f"{self.column} is anything else"]

    @property
    def broken(self) -> int | None:
        """What was not declared."""
        return len(self.classes)

    def grouped(self, values: pd.Series) -> Integers:
        known = {text_of(name): number for number, name in enumerate(self.classes)}
        return np.fromiter(
            (known.get(text, len(self.classes)) for text in texts(values)), dtype=np.int64, count=len(values)
        )
