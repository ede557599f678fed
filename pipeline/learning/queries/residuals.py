"""How far the predictions of a regression are off: sums of bounded numbers, in fractions of the target's range."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.learning.queries.query import Measured, Query, Rows
from privacy.noise import Floats, Integers

UNIT = 1024
"""What one record adds to a count, and at most to a sum."""
BINS = 10
"""Of the prediction, even in its range: calibration is the mean residual in each."""
EDGES = np.concatenate([[0.0], np.geomspace(2.0**-10, 1.0, 21)])
"""Of the size of a residual, for its quantiles: the first bin holds all below a thousandth of the range."""
WIDE = 0.9
"""Part of the held-out records whose outcome is within the interval of an answer."""


class Residuals(Query):
    """By bin of the prediction the records [10] and the sum of their residuals [10]; the sizes of the residuals [21];
    sums of their size, of their square, of the target about the middle of its range, and of that squared.

    Predictions are clipped to the bounds, and so are targets: each of the seven numbers that a record adds to is
    between -1 and 1, times `UNIT`.
    """

    kind: Literal["residuals"] = "residuals"
    low: float = Field(allow_inf_nan=False, description="Least target.")
    high: float = Field(allow_inf_nan=False, description="Greatest target.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        return self

    @property
    def size(self) -> int:
        return 2 * BINS + len(EDGES) - 1 + 4

    @property
    def norm(self) -> float:
        return UNIT * math.sqrt(7)

    def count(self, rows: Rows, outputs: Floats) -> Integers:
        """outputs: predictions [rows, 1] as fractions of the range."""
        known = np.isfinite(rows.targets)
        targets = np.clip(rows.targets[known].astype(np.float64), 0.0, 1.0)
        told = np.clip(np.nan_to_num(outputs[known, 0].astype(np.float64), nan=0.5), 0.0, 1.0)
        residuals, middle = targets - told, 2 * targets - 1
        vector = np.zeros(self.size, dtype=np.int64)
        at = np.minimum((told * BINS).astype(np.int64), BINS - 1)
        np.add.at(vector, at, UNIT)
        np.add.at(vector, BINS + at, np.rint(UNIT * residuals).astype(np.int64))
        sizes = np.clip(np.searchsorted(EDGES, np.abs(residuals), side="right") - 1, 0, len(EDGES) - 2)
        np.add.at(vector, 2 * BINS + sizes, UNIT)
        moments = np.stack([np.abs(residuals), residuals**2, middle, middle**2])
        vector[-4:] = np.rint(UNIT * moments).astype(np.int64).sum(axis=1)
        return vector

    def read(self, total: Integers, noise: float) -> dict[str, Measured]:
        """mae, rmse, interval (the half-width that holds 9 of 10 outcomes) in units of the target; r2; and the mean
        residual by tenth of the range of the prediction, as `calibration[k]`."""
        noise, counts = noise / UNIT, total / UNIT
        rows = max(float(counts[:BINS].sum() + counts[2 * BINS : -4].sum()) / 2, 1.0)
        span = self.high - self.low
        size, square, middle, spread = np.clip(counts[-4:] / rows, [0, 0, -1, 0], 1)
        each = noise / rows + 0.5 / UNIT / math.sqrt(rows)
        mae = Measured(span * size, span * math.sqrt(max(square - size**2, 0) / rows + each**2 * (1 + size**2)))
        # The fourth moment is not asked for: of a normal residual the square varies by twice the square of its mean.
        of_square = math.sqrt(2 * square**2 / rows + each**2)
        rmse = math.sqrt(square)
        variance = max(spread - middle**2, 1e-9) / 4  # in units of the range, of which the middle is half
        of_variance = math.sqrt(2 * variance**2 / rows + each**2 / 16 * (1 + 4 * middle**2))
        r2 = 1 - square / variance
        of_r2 = math.hypot(of_square / variance, square * of_variance / variance**2)
        found = {
            "mae": mae,
            "rmse": Measured(span * rmse, span * of_square / max(2 * rmse, math.sqrt(of_square), 1e-9)),
            "r2": Measured(max(r2, -1e6), min(of_r2, 1e6)),
            "interval": self._interval(counts[2 * BINS : -4], rows, noise),
        }
        for k in range(BINS):
            count, residual = float(counts[k]), float(counts[BINS + k])
            if count > 4 * noise and count >= 1:
                mean = min(max(residual / count, -1.0), 1.0)
                error = math.sqrt(square / count + (noise / count) ** 2 * (1 + mean**2))
                found[f"calibration[{k}]"] = Measured(span * mean, span * error)
        return found

    def curves(self, total: Integers) -> dict[str, list[Any]]:
        """By tenth of the range of the prediction: its middle, how many records, and their mean residual."""
        counts, span = total / UNIT, self.high - self.low
        rows = np.maximum(counts[:BINS], 0.0)
        mean = np.where(rows >= 1, counts[BINS : 2 * BINS] / np.maximum(rows, 1.0), np.nan)
        return {
            "prediction": (self.low + span * (np.arange(BINS) + 0.5) / BINS).tolist(),
            "records": rows.tolist(),
            "mean_residual": (span * np.clip(mean, -1.0, 1.0)).tolist(),
        }

    def _interval(self, sizes: Floats, rows: float, noise: float) -> Measured:
        """The quantile of the size of a residual, with the width of its bin as error."""
        reached = np.maximum.accumulate(np.cumsum(np.maximum(sizes, 0.0)))
        wanted = WIDE * max(float(reached[-1]), 1.0)
        k = min(int(np.searchsorted(reached, wanted)), len(sizes) - 1)
        before = float(reached[k - 1]) if k else 0.0
        inside = max(float(reached[k]) - before, 1.0)
        part = min(max((wanted - before) / inside, 0.0), 1.0)
        width = float(EDGES[k + 1] - EDGES[k])
        off = math.sqrt(WIDE * (1 - WIDE) * rows + noise**2 * len(sizes)) / inside
        span = self.high - self.low
        return Measured(span * (float(EDGES[k]) + part * width), span * width * (0.5 + min(off, 20.0)))
