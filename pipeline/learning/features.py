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
from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns import AnyColumn
from pipeline.learning.columns.column import Matrix
from pipeline.learning.contract import DataContract, Label

if TYPE_CHECKING:
    import pandas as pd


class FeatureSpec(Frozen):
    """How a row becomes a vector: the features of each column, side by side."""

    columns: dict[str, AnyColumn] = Field(description="Feature columns, in order.")
    label: Label = Field(description="The outcome.")

    @classmethod
    def of(cls, contract: DataContract) -> Self:
        """The spec that a contract declares."""
        return cls(columns=contract.columns, label=contract.label)

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(column.width for column in self.columns.values())

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """Features of every row, float32 [rows, width], all values in [0, 1]."""
        parts = [column.encoded(frame[name]) for name, column in self.columns.items()]
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def labels(self, frame: pd.DataFrame) -> Matrix:
        """1 for the positive class, else 0; float32 [rows]."""
        return positives(self.label, frame[self.label.column]).astype(np.float32)

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Named raw rows as the table `matrix` expects."""
        import pandas as pd

        table = {
            name: pd.Series([row[name] for row in rows], dtype=column.dtype) for name, column in self.columns.items()
        }
        return pd.DataFrame(table)


def positives(label: Label, values: pd.Series) -> npt.NDArray[np.bool_]:
    """Whether each cell holds one of the positive names."""
    names = {text_of(name) for name in label.positive}
    return np.fromiter((text in names for text in texts(values)), dtype=np.bool_, count=len(values))
