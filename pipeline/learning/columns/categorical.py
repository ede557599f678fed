"""A categorical column: one of a declared list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.axis import Axis
from pipeline.learning.columns.column import Encoder, Matrix
from pipeline.learning.columns.words import Words
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd


class Categorical(Words):
    """A column of names, one-hot encoded over its declared categories and one more place for anything else."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["categorical"] = Field(description="One of a declared list of names.")
    categories: tuple[str, ...] = Field(
        min_length=2, description="All values that may occur; the first, best the usual one, is the reference."
    )
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [text_of(name) for name in self.categories]  # 1 and 1.0 are one cell
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"categories must be distinct; twice: {', '.join(twice)}")
        if self.example is not None and self.example not in self.categories:
            raise ValueError(f"example {self.example!r} is not one of the categories")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, self._sorted]

    @property
    def width(self) -> int:
        return len(self.categories)

    def axes(self, fine: int) -> tuple[Axis, ...]:
        return (Axis("names", "", (*map(text_of, self.categories), "(any other)"), width=self.width),)

    def encoded(self, values: pd.Series) -> Matrix:
        """One place a category and one for anything else, but none for the first declared one, the reference: a typical
        record is then a short vector, its gradient is small, and less of it is clipped away (docs/adr/0004)."""
        places = _places([text_of(name) for name in self.categories], values)
        hot = np.zeros((len(places), len(self.categories) + 1), dtype=np.float32)
        hot[np.arange(len(places)), places] = 1.0
        return hot[:, 1:]

    def encoder(self) -> Encoder:
        places = {text_of(name): place for place, name in enumerate(self.categories)}

        def encode(value: str, into: Matrix) -> None:
            place = places.get(value)  # most are written as they are declared
            if place is None:
                place = places.get(text_of(value), len(places))
            if place:
                into[place - 1] = 1.0

        return encode

    @property
    def cells(self) -> int:
        """Each name, and any other."""
        return len(self.categories) + 1

    @property
    def broken(self) -> int:
        return len(self.categories)

    def counted(self, values: pd.Series) -> Integers:
        return _places(self._sorted, values)

    def bin_names(self, fine: int) -> list[str]:
        return [*self._sorted, "(any other)"]

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "enum": list(self.categories)}

    @property
    def usual(self) -> str:
        return self.categories[0] if self.example is None else self.example

    @property
    def _sorted(self) -> list[str]:
        return sorted(text_of(name) for name in self.categories)


def _places(names: list[str], values: pd.Series) -> Integers:
    """Where each cell stands among `names`; after the last one what is none of them."""
    import pandas as pd

    codes = pd.Index(names, dtype=object).get_indexer(pd.Index(texts(values), dtype=object))
    return np.where(codes < 0, len(names), codes).astype(np.int64)
