"""A column whose cells are prose."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from pipeline.learning.cells import texts
from pipeline.learning.columns.words import Words
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd

_WORD = re.compile(r"\w+")
LONGEST_TEXT = 100_000
"""Characters that are read; what comes after them is not."""


class Prose(Words, ABC):
    """Words and words in a row, in lower case."""

    ngrams: int = Field(1, ge=1, le=3, description="Words in a row that are taken together, at most.")
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    @property
    def cells(self) -> int:
        """With words, and without any."""
        return 2

    @property
    def broken(self) -> int | None:
        """Any text will do."""
        return None

    def counted(self, values: pd.Series) -> Integers:
        said = texts(values)
        return np.fromiter((_WORD.search(text) is None for text in said), dtype=np.int64, count=len(said))

    @property
    def usual(self) -> str:
        return "some words" if self.example is None else self.example

    def words(self, text: str) -> Iterator[str]:
        """Those of a text, the single ones first."""
        words = _WORD.findall(text[:LONGEST_TEXT].lower())
        for length in range(1, self.ngrams + 1):
            for at in range(len(words) - length + 1):
                yield " ".join(words[at : at + length])
