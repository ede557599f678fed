"""A column whose cells lie between declared bounds."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Literal

from pipeline.learning.columns.column import Column

CELLS = 20
"""Even cells between the bounds, in which a check counts."""


class Bounded(Column, ABC):
    """Its check counts in even cells between the bounds, one for what is outside or cannot be read, one for gaps."""

    breaks: ClassVar[Literal["bounds"]] = "bounds"
    ordered: ClassVar[bool] = True

    @property
    def cells(self) -> int:
        return CELLS + 2

    @property
    def lacking(self) -> int:
        return CELLS + 1

    @property
    def broken(self) -> int:
        return CELLS

    @property
    def ranking(self) -> int:
        return CELLS

    def bins(self, fine: int) -> int:
        """As many between the bounds, one for what breaks them, one for what is missing."""
        return fine + 2
