"""A column of more names than anybody would declare: hashed into buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.column import Column, Matrix
from pipeline.learning.columns.hashing import bucket_of
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd


class Hashed(Column):
    """Names in the thousands, of which none is declared: each falls into one of so many buckets, the same everywhere.

    Two names in one bucket are one to the model. The hash is public: it hides nothing.
    """

    kind: Literal["hashed"] = Field(description="One of many names, none of them declared.")
    buckets: int = Field(64, ge=2, le=4096, description="Features that the names are hashed into.")
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    breaks: ClassVar[Literal["categories"]] = "categories"
    ordered: ClassVar[bool] = False
    dtype: ClassVar[Literal["str"]] = "str"

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.buckets]

    @property
    def width(self) -> int:
        return self.buckets

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        return texts(values)

    def encoded(self, values: pd.Series) -> Matrix:
        """1 in the bucket of the name; a missing one is in none."""
        places = self.counted(values)
        hot = np.zeros((len(places), self.cells), dtype=np.float32)
        hot[np.arange(len(places)), places] = 1.0
        return hot[:, : self.buckets]

    @property
    def cells(self) -> int:
        """Each bucket, and what is missing."""
        return self.buckets + 1

    @property
    def broken(self) -> int | None:
        """Any name will do."""
        return None

    @property
    def ranking(self) -> int:
        return self.cells

    def counted(self, values: pd.Series) -> Integers:
        said = texts(values)
        known = {text: self._bucket(text) for text in set(said)}
        return np.fromiter((known[text] for text in said), dtype=np.int64, count=len(said))

    def accepted(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValueError("expected text or null")
        return value

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "string"}

    @property
    def usual(self) -> str:
        return "name" if self.example is None else text_of(self.example)

    def _bucket(self, text: str) -> int:
        return bucket_of(text, self.buckets) if text else self.buckets
