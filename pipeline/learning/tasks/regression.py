"""A number between declared bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.learning.cells import numbers
from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.query import Query
from pipeline.learning.queries.residuals import WIDE, Residuals
from pipeline.learning.tasks.task import Beginning, Task, certain, log
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd
    import torch

NEAR = 0.1
"""Of the range: nearer to it than this, a median is learned from sums like a mean (Huber 1964): a sign alone does not
tell how far to go."""


class Regression(Task):
    """The number in `column`. Within, it is a fraction of its range, and of `high` under the Poisson loss.

    The model says one number: that fraction, or under the Poisson loss its logarithm.
    """

    kind: Literal["regression"] = Field(description="A number.")
    low: float = Field(allow_inf_nan=False, description="Least value; smaller ones are clipped and warned about.")
    high: float = Field(allow_inf_nan=False, description="Greatest value; larger ones are clipped and warned about.")
    loss: Literal["squared", "absolute", "poisson"] = Field(
        "squared", description="squared: the mean; absolute: the median; poisson: the rate of a count."
    )

    measures: ClassVar[Mapping[str, bool]] = {"r2": True, "rmse": False, "mae": False}
    penalty: ClassVar[str] = "error as a share of the range"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        if self.loss == "poisson" and self.low != 0:
            raise ValueError(f"a count begins at 0: expected low 0 with loss poisson, got {self.low}")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.column, self.low, self.high, self.loss]

    @property
    def said(self) -> str:
        return f"{self.column} from {self.low:g} to {self.high:g}, {self.loss} loss"

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, values: pd.Series) -> Matrix:
        raw = numbers(values)
        inside = np.clip(raw, self.low, self.high)  # NaN stays NaN
        return ((inside - self.low) / (self.high - self.low)).astype(np.float32)

    def outcomes(self, chances: Floats) -> Matrix:
        return chances.astype(np.float32)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = targets.isfinite()
        wanted, told = targets.nan_to_num(0.0), outputs.squeeze(1)
        if self.loss == "squared":
            each = (told - wanted).square() / 2
        elif self.loss == "absolute":
            each = (told - wanted).abs()
        else:
            each = told.exp() - wanted * told
        return each.where(known, each.new_zeros(()))

    @property
    def meaning(self) -> Literal["mean", "median", "rate"]:
        if self.loss == "poisson":
            return "rate"
        return "median" if self.loss == "absolute" else "mean"

    def moments(self, targets: Matrix) -> Floats:
        inside = np.clip(targets.astype(np.float64), 0.0, 1.0)
        return np.stack([inside, inside**2], axis=1)

    def beginning(self, means: Floats) -> Beginning:
        middle, spread = _spread(means)
        if self.loss == "poisson":
            return Beginning(np.array([log(middle)]), spread, 1.0)
        return Beginning(np.array([middle]), 1.0 if self.loss == "absolute" else spread, spread)

    def shift(self, means: Floats, away: Floats) -> Floats:
        return np.zeros_like(away) if self.loss == "absolute" else super().shift(means, away)

    def curvature(self, means: Floats, away: Floats) -> Floats:
        middle, _ = _spread(means)
        if self.loss == "poisson":
            return np.asarray(np.clip(middle + away, 0.0, 1.0))
        return np.full_like(away, 1 / NEAR if self.loss == "absolute" else 1.0)

    def residuals(self, outputs: Floats, targets: Matrix) -> Floats:
        wanted = targets.astype(np.float64)[:, None]
        if self.loss == "poisson":
            return wanted - np.exp(np.clip(outputs, -50.0, 5.0))
        away: Floats = wanted - outputs
        return np.clip(away / NEAR, -1.0, 1.0) if self.loss == "absolute" else away

    @property
    def steepest(self) -> float:
        return 1 / NEAR if self.loss == "absolute" else 1.0

    def steepness(self, outputs: Floats) -> Floats:
        if self.loss == "poisson":
            return np.exp(np.clip(outputs, -50.0, 5.0))
        return np.full_like(outputs, 1 / NEAR if self.loss == "absolute" else 1.0)

    def predictions(self, outputs: Matrix) -> Floats:
        """As fractions of the range [rows, 1]."""
        if self.loss == "poisson":
            return np.asarray(np.exp(np.clip(outputs.astype(np.float64), -50.0, 50.0)))
        return outputs.astype(np.float64)

    def penalties(self, predictions: Floats, targets: Matrix) -> Floats:
        """Squared; under the absolute loss absolute."""
        away = np.abs(np.clip(predictions[:, 0], 0.0, 1.0) - targets.astype(np.float64))
        return np.asarray(away if self.loss == "absolute" else away**2)

    def question(self, bins: int) -> Query:
        return Residuals(low=self.low, high=self.high)

    def answers(self, outputs: Matrix, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
        told = np.clip(self.predictions(outputs)[:, 0].astype(np.float64), 0.0, 1.0)
        span, half = self.high - self.low, metrics.get("interval", self.high - self.low)
        values = (self.low + span * told).tolist()
        return [
            {
                "value": _rounded(value),
                "interval": [_rounded(max(self.low, value - half)), _rounded(min(self.high, value + half))],
            }
            for value in values
        ]

    @property
    def answer_schema(self) -> dict[str, object]:
        number = {"type": "number", "minimum": self.low, "maximum": self.high}
        interval = {
            "type": "array",
            "items": number,
            "minItems": 2,
            "maxItems": 2,
            "description": f"As wide on either side as holds the outcome of {WIDE:.0%} of the held-out records.",
        }
        return {"type": "object", "properties": {"value": number, "interval": interval}}

    @property
    def groups(self) -> int:
        """The lower and the upper half of the range; and what is out of it, or none."""
        return 3

    @property
    def group_names(self) -> list[str]:
        middle = f"{(self.low + self.high) / 2:g}"
        return [
            f"{self.column} up to {middle}",
            f"{self.column} above {middle}",
            f"{self.column} out of bounds or none",
        ]

    @property
    def broken(self) -> int | None:
        return 2

    @property
    def breaks(self) -> Literal["bounds", "categories"]:
        return "bounds"

    @property
    def balanced(self) -> bool:
        """Halves of a range mean nothing."""
        return False

    def grouped(self, values: pd.Series) -> Integers:
        raw = numbers(values)
        inside = (raw >= self.low) & (raw <= self.high)
        return np.where(inside, raw > (self.low + self.high) / 2, 2).astype(np.int64)


def _spread(means: Floats) -> tuple[float, float]:
    """Mean and deviation of the targets, as far as noise lets tell."""
    middle = certain(float(means[0]))
    return middle, math.sqrt(min(max(float(means[1]) - middle**2, 1e-4), 0.25))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
