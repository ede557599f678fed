"""A column of more names than anybody would declare: hashed into buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.axis import Axis
from pipeline.learning.columns.column import Encoder, Matrix
from pipeline.learning.columns.hashing import bucket_of
from pipeline.learning.columns.words import Words
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd


class Hashed(Words):
    """Names in the thousands, of which none is declared: each falls into one of so many buckets, the same everywhere.

    Two names in one bucket are one to the model. The hash is public: it hides nothing.
    """

    kind: Literal["hashed"] = Field(description="One of many names, none of them declared.")
    buckets: int = Field(64, ge=2, le=4096, description="Features that the names are hashed into.")
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.buckets]

    @property
    def width(self) -> int:
        return self.buckets

    def axes(self, fine: int) -> tuple[Axis, ...]:
        labels = ("(missing)", *(f"bucket {number}" for number in range(self.buckets)))
        return (Axis("names", "", labels, width=self.width),)

    def encoded(self, values: pd.Series) -> Matrix:
        """1 in the bucket of the name; a missing one is in none."""
        places = self.counted(values)
        hot = np.zeros((len(places), self.cells), dtype=np.float32)
        hot[np.arange(len(places)), places] = 1.0
        return hot[:, : self.buckets]

    def encoder(self) -> Encoder:
        def encode(value: str, into: Matrix) -> None:
            if text := text_of(value):
                into[bucket_of(text, self.buckets)] = 1.0

        return encode

    @property
    def cells(self) -> int:
        """Each bucket, and what is missing."""
        return self.buckets + 1

    @property
    def lacking(self) -> int:
        return self.buckets

    @property
    def broken(self) -> int | None:
        """Any name will do."""
        return None

    def counted(self, values: pd.Series) -> Integers:
        said = texts(values)
        known = {text: self._bucket(text) for text in set(said)}
        return np.fromiter((known[text] for text in said), dtype=np.int64, count=len(said))

    def bin_names(self, fine: int) -> list[str]:
        return [*(f"bucket {number}" for number in range(self.buckets)), "(missing)"]

    @property
    def usual(self) -> str:
        return "name" if self.example is None else text_of(self.example)

    def _bucket(self, text: str) -> int:
        return bucket_of(text, self.buckets) if text else self.buckets
