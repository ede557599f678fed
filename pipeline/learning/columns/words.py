"""A column whose cells are read as words."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt

from pipeline.learning.cells import texts
from pipeline.learning.columns.column import Column

if TYPE_CHECKING:
    import pandas as pd


class Words(Column, ABC):
    """Kept as texts, in no order, and asked for as text."""

    breaks: ClassVar[Literal["categories"]] = "categories"
    ordered: ClassVar[bool] = False
    dtype: ClassVar[Literal["str"]] = "str"

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        return texts(values)

    @property
    def ranking(self) -> int:
        return self.cells

    def accepted(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValueError("expected text or null")
        return value

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "string"}
