"""A numeric column: within declared bounds, with codes that stand for an unknown value."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.learning.cells import numbers, quantities
from pipeline.learning.columns.axis import Axis, even
from pipeline.learning.columns.bounded import CELLS, Bounded
from pipeline.learning.columns.column import Encoder, Matrix
from pipeline.learning.columns.scaling import LEVELS, Scale, grid, quantiles, scaling, unscaling
from privacy.errors import PlanInvalid
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

Bools = npt.NDArray[np.bool_]


class Numeric(Bounded):
    """A numeric column, scaled to [0, 1] by its declared bounds, with a flag for unknown values."""

    kind: Literal["numeric"] = Field(description="A number within declared bounds.")
    low: float = Field(description="Smallest value; smaller ones are clipped and warned about.")
    high: float = Field(description="Largest value; larger ones are clipped and warned about.")
    unknown: tuple[float, ...] = Field((), description="Codes that stand for an unknown value.")
    scale: Scale = Field(
        "linear",
        description="How it becomes a number from 0 to 1: evenly between the bounds; by the logarithm of the distance "
        "from `low` (amounts, counts); or by the share of records below it.",
    )
    edges: tuple[float, ...] = Field(
        (),
        max_length=1001,
        description="Of scale quantile: values from `low` to `high` that divide the records evenly. None: they are "
        "asked of the clients, as `statistics` pays for.",
    )
    example: float | None = Field(None, description="A value for documentation and the first prediction.")

    dtype: ClassVar[Literal["float64"]] = "float64"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        if self.edges and self.scale != "quantile":
            raise ValueError(f"edges are those of scale quantile, not of {self.scale}")
        if self.edges:
            steps = np.diff(self.edges)
            if not (np.isfinite(self.edges).all() and (steps >= 0).all() and steps.any()):
                raise ValueError("expected edges that rise, at least two of them apart")
            if not self.low <= self.edges[0] <= self.edges[-1] <= self.high:
                raise ValueError(f"expected edges from {self.low} to {self.high}")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.low, self.high, sorted(self.unknown)]

    @property
    def width(self) -> int:
        return 2

    def axes(self, fine: int) -> tuple[Axis, ...]:
        """Bins that are even once it is scaled."""
        edges = unscaling(self.low, self.high, self.scale, self.edges)(np.linspace(0.0, 1.0, fine + 1))
        return (even("", fine, lambda _: [f"{edge:.4g}" for edge in edges], "(unknown)", edges),)

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        return quantities(values)

    def encoded(self, values: pd.Series) -> Matrix:
        """The scaled value, 0 when it is unknown; and whether it is."""
        scale = self._scaling()
        raw = numbers(values)
        unknown = ~np.isfinite(raw) | np.isin(raw, self.unknown)
        inside = np.clip(np.where(unknown, self.low, raw), self.low, self.high)
        return np.stack([np.where(unknown, 0.0, scale(inside)), unknown], axis=1).astype(np.float32)

    def encoder(self) -> Encoder:
        scale, low, high, codes = self._scaling(), self.low, self.high, frozenset(self.unknown)

        def encode(value: float, into: Matrix) -> None:
            if not math.isfinite(value) or value in codes:
                into[1] = 1.0
            else:
                into[0] = scale(min(max(value, low), high))  # type: ignore[arg-type]

        return encode

    def counted(self, values: pd.Series) -> Integers:
        raw, missing, inside = self._read(values)
        even = (np.where(inside, raw, self.low) - self.low) / (self.high - self.low)
        cell = np.minimum((even * CELLS).astype(np.int64), CELLS - 1)
        return np.where(missing, CELLS + 1, np.where(inside, cell, CELLS))

    def binned(self, values: pd.Series, fine: int) -> Integers:
        raw, missing, inside = self._read(values)
        edges = self.edges_of(fine)
        place = np.searchsorted(edges, np.where(inside, raw, self.low), side="right") - 1
        return np.where(missing, fine + 1, np.where(inside, np.clip(place, 0, fine - 1), fine)).astype(np.int64)

    def bin_names(self, fine: int) -> list[str]:
        told = [f"{edge:.6g}" for edge in self.edges_of(fine)]
        return [*(f"{low} to {high}" for low, high in pairwise(told)), "(out of bounds)", "(missing)"]

    def edges_of(self, fine: int) -> Floats:
        return grid(self.low, self.high, fine, self.scale)

    @property
    def unfitted(self) -> bool:
        return self.scale == "quantile" and not self.edges

    def fitted(self, counts: Floats) -> Self:
        """Edges that divide the counted records evenly, where none are declared."""
        if not self.unfitted:
            return self
        inner = quantiles(self.edges_of(len(counts)), counts, np.linspace(0.0, 1.0, LEVELS + 1)[1:-1])
        edges = [self.low, *(float(f"{edge:.6g}") for edge in inner), self.high]
        edges = np.maximum.accumulate(np.clip(edges, self.low, self.high)).tolist()
        return self.model_copy(update={"edges": tuple(edges)})

    def _scaling(self) -> Callable[[Floats], Floats]:
        if self.unfitted:
            raise PlanInvalid(
                "a column of scale quantile has no edges yet", remedy="Declare them, or ask for statistics."
            )
        return scaling(self.low, self.high, self.scale, self.edges)

    def _read(self, values: pd.Series) -> tuple[Floats, Bools, Bools]:
        """The numbers, which of them are missing, and which are within the bounds."""
        raw = quantities(values)
        missing = np.isnan(raw) & bool(self.unknown) | np.isin(raw, self.unknown)
        return raw, missing, (raw >= self.low) & (raw <= self.high)

    def accepted(self, value: Any) -> float:
        if value is None:
            return math.nan
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
        except OverflowError:  # a whole number of hundreds of digits
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("expected a number or null")
        return number

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}

    @property
    def usual(self) -> float:
        return (self.low + self.high) / 2 if self.example is None else self.example
