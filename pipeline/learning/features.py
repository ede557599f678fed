"""Preprocessing: raw columns to a float32 matrix, from declarations alone.

The spec is a value that travels: clients use it before training, the endpoint before predicting, and it is stored
with every version, so that the two cannot differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.learning.cells import numbers, text_of, texts
from pipeline.learning.columns import Column, Numeric
from pipeline.learning.contract import DataContract, Label

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.float32]


class FeatureSpec(Frozen):
    """How a row becomes a vector. Numeric: scaled value and unknown flag. Categorical: one place a category and one
    for anything else, but none for the first declared category, the reference: a typical record is then a short
    vector, its gradient is small, and less of it is clipped away (docs/adr/0004)."""

    columns: dict[str, Column] = Field(description="Feature columns, in order.")
    label: Label = Field(description="The outcome.")

    @classmethod
    def of(cls, contract: DataContract) -> Self:
        """The spec that a contract declares."""
        return cls(columns=contract.columns, label=contract.label)

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(2 if isinstance(c, Numeric) else len(c.categories) for c in self.columns.values())

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """Features of every row, float32 [rows, width], all values in [0, 1]."""
        parts = [_encode(column, frame[name]) for name, column in self.columns.items()]
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def labels(self, frame: pd.DataFrame) -> Matrix:
        """1 for the positive class, else 0; float32 [rows]."""
        return positives(self.label, frame[self.label.column]).astype(np.float32)

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Named raw rows as the table `matrix` expects."""
        import pandas as pd

        table = {
            name: pd.Series([row[name] for row in rows], dtype="float64" if isinstance(column, Numeric) else "str")
            for name, column in self.columns.items()
        }
        return pd.DataFrame(table)


def positives(label: Label, values: pd.Series) -> npt.NDArray[np.bool_]:
    """Whether each cell holds one of the positive names."""
    names = {text_of(name) for name in label.positive}
    return np.fromiter((text in names for text in texts(values)), dtype=np.bool_, count=len(values))


def _encode(column: Column, values: pd.Series) -> Matrix:
    import pandas as pd

    if isinstance(column, Numeric):
        raw = numbers(values)
        unknown = ~np.isfinite(raw) | np.isin(raw, column.unknown)
        inside = np.clip(np.where(unknown, column.low, raw), column.low, column.high)
        scaled = (inside - column.low) / (column.high - column.low)
        return np.stack([np.where(unknown, 0.0, scaled), unknown], axis=1).astype(np.float32)
    names = pd.Index([text_of(name) for name in column.categories], dtype=object)
    codes = names.get_indexer(pd.Index(texts(values), dtype=object))
    places = np.where(codes < 0, len(column.categories), codes)
    hot = np.zeros((len(places), len(column.categories) + 1), dtype=np.float32)
    hot[np.arange(len(places)), places] = 1.0
    return hot[:, 1:]
