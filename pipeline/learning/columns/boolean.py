"""A boolean column: true, false or unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.axis import Axis
from pipeline.learning.columns.column import Encoder, Matrix
from pipeline.learning.columns.words import Words
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd

TRUE, FALSE, MISSING, OTHER = range(4)


class Boolean(Words):
    """A column of truth, as whatever words it is written in; anything else is unknown."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["boolean"] = Field(description="True or false.")
    true: tuple[str, ...] = Field(("True", "true", "1"), min_length=1, description="Values that say true.")
    false: tuple[str, ...] = Field(("False", "false", "0"), min_length=1, description="Values that say false.")
    example: bool | None = Field(None, description="A value for documentation and the first prediction.")

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        yes, no = self._words
        if both := sorted(yes & no):
            raise ValueError(f"a value cannot be true and false: {', '.join(both)}")
        if "" in yes | no:
            raise ValueError("a missing value says neither true nor false")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, *(sorted(words) for words in self._words)]

    @property
    def width(self) -> int:
        return 2

    def axes(self, fine: int) -> tuple[Axis, ...]:
        return (Axis("names", "", ("false", "true", "(unknown)"), width=self.width),)

    def encoded(self, values: pd.Series) -> Matrix:
        """Whether it is true, and whether nobody knows."""
        cells = self.counted(values)
        return np.stack([cells == TRUE, cells > FALSE], axis=1).astype(np.float32)

    def encoder(self) -> Encoder:
        yes, no = self._words

        def encode(value: str, into: Matrix) -> None:
            text = text_of(value)
            into[0] = text in yes
            into[1] = text not in yes and text not in no

        return encode

    @property
    def cells(self) -> int:
        """True, false, missing, anything else."""
        return 4

    @property
    def lacking(self) -> int:
        return MISSING

    @property
    def broken(self) -> int:
        return OTHER

    def counted(self, values: pd.Series) -> Integers:
        yes, no = self._words
        known = {**dict.fromkeys(yes, TRUE), **dict.fromkeys(no, FALSE), "": MISSING}
        return np.fromiter((known.get(text, OTHER) for text in texts(values)), dtype=np.int64, count=len(values))

    def bin_names(self, fine: int) -> list[str]:
        return ["true", "false", "(missing)", "(any other)"]

    def accepted(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, bool):
            raise ValueError("expected true, false or null")
        return self.true[0] if value else self.false[0]

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "boolean"}

    @property
    def usual(self) -> bool:
        return bool(self.example)

    @property
    def _words(self) -> tuple[set[str], set[str]]:
        return {text_of(word) for word in self.true}, {text_of(word) for word in self.false}
