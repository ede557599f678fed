"""A numeric column: within declared bounds, with codes that stand for an unknown value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.learning.cells import numbers
from pipeline.learning.columns.bounded import CELLS, Bounded
from pipeline.learning.columns.column import Matrix
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd


class Numeric(Bounded):
    """A numeric column, scaled to [0, 1] by its declared bounds, with a flag for unknown values."""

    kind: Literal["numeric"] = Field(description="A number within declared bounds.")
    low: float = Field(description="Smallest value; smaller ones are clipped and warned about.")
    high: float = Field(description="Largest value; larger ones are clipped and warned about.")
    unknown: tuple[float, ...] = Field((), description="Codes that stand for an unknown value.")
    example: float | None = Field(None, description="A value for documentation and the first prediction.")

    dtype: ClassVar[Literal["float64"]] = "float64"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.low, self.high, sorted(self.unknown)]

    @property
    def width(self) -> int:
        return 2

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        return numbers(values)

    def encoded(self, values: pd.Series) -> Matrix:
        """The scaled value, 0 when it is unknown; and whether it is."""
        raw = numbers(values)
        unknown = ~np.isfinite(raw) | np.isin(raw, self.unknown)
        inside = np.clip(np.where(unknown, self.low, raw), self.low, self.high)
        scaled = (inside - self.low) / (self.high - self.low)
        return np.stack([np.where(unknown, 0.0, scaled), unknown], axis=1).astype(np.float32)

    def counted(self, values: pd.Series) -> Integers:
        raw = numbers(values)
        missing = np.isnan(raw) & bool(self.unknown) | np.isin(raw, self.unknown)
        inside = (raw >= self.low) & (raw <= self.high)
        scaled = (np.where(inside, raw, self.low) - self.low) / (self.high - self.low)
        cell = np.minimum((scaled * CELLS).astype(np.int64), CELLS - 1)
        return np.where(missing, CELLS + 1, np.where(inside, cell, CELLS))

    def accepted(self, value: Any) -> float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError("expected a number or null")
        return float(value)

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}

    @property
    def usual(self) -> float:
        return (self.low + self.high) / 2 if self.example is None else self.example
