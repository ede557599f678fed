"""Preprocessing: raw columns to a float32 matrix, from declarations and what was fitted to charged statistics.

The spec is a value that travels: clients use it before training, the endpoint before predicting, and it is stored
with every version, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.kinds import Frozen
from pipeline.learning.columns.column import Column, Matrix
from pipeline.learning.contract import DataContract, with_task
from pipeline.learning.shape import Shape
from pipeline.learning.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd


class FeatureSpec(Frozen):
    """How a row becomes a vector: the features of each column, side by side."""

    columns: dict[str, Column] = Field(description="Feature columns, in order.")
    task: Task = Field(description="The outcome.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, tree: Any) -> Any:
        return with_task(tree)

    @classmethod
    def of(cls, contract: DataContract) -> Self:
        """The spec that a contract declares."""
        return cls(columns=contract.columns, task=contract.task)

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(column.width for column in self.columns.values())

    @property
    def shape(self) -> Shape:
        """How they lie side by side."""
        return Shape.of(self.columns)

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """Features of every row, float32 [rows, width]."""
        made, at = np.empty((len(frame), self.width), dtype=np.float32), 0
        for name, column in self.columns.items():
            made[:, at : at + column.width] = column.encoded(frame[name])
            at += column.width
        return made

    def targets(self, frame: pd.DataFrame) -> Matrix:
        """What the task learns of each row; float32 [rows]."""
        return self.task.targets(frame[self.task.column])

    def encoder(self) -> Callable[[Sequence[Mapping[str, Any]]], Matrix]:
        """`matrix` of accepted rows without a table: a request of one row is not worth one."""
        places, at = [], 0
        for name, column in self.columns.items():
            places.append((name, at, at + column.width, column.encoder()))
            at += column.width

        def encode(rows: Sequence[Mapping[str, Any]]) -> Matrix:
            made = np.zeros((len(rows), self.width), dtype=np.float32)
            for name, first, end, each in places:
                for row, into in zip(rows, made[:, first:end], strict=True):
                    each(row[name], into)
            return made

        return encode
