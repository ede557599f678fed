"""A column of prose: the words it uses, hashed into buckets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from pipeline.learning.cells import texts
from pipeline.learning.columns.column import Matrix
from pipeline.learning.columns.hashing import bucket_of
from pipeline.learning.columns.words import Words
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd

_WORD = re.compile(r"\w+")
LONGEST_TEXT = 100_000
"""Characters that are read; what comes after them is not."""


class Text(Words):
    """A bag of words and of words in a row, in lower case: how often each is used, as a vector of length one.

    Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", without signs: two that share a bucket
    are one to the model.
    """

    kind: Literal["text"] = Field(description="Prose.")
    buckets: int = Field(256, ge=2, le=4096, description="Features that the words are hashed into.")
    ngrams: int = Field(1, ge=1, le=3, description="Words in a row that are taken together, at most.")
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.buckets, self.ngrams]

    @property
    def width(self) -> int:
        return self.buckets

    def encoded(self, values: pd.Series) -> Matrix:
        """How often each bucket is met, over the length of the vector; a text without words is zero."""
        counts = np.zeros((len(values), self.buckets), dtype=np.float64)
        for row, text in enumerate(texts(values)):
            for word in self._words(text):
                counts[row, bucket_of(word, self.buckets)] += 1.0
        lengths = np.linalg.norm(counts, axis=1, keepdims=True)
        scaled: Matrix = (counts / np.maximum(lengths, 1.0)).astype(np.float32)
        return scaled

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

    def _words(self, text: str) -> Iterator[str]:
        words = _WORD.findall(text[:LONGEST_TEXT].lower())
        for length in range(1, self.ngrams + 1):
            for at in range(len(words) - length + 1):
                yield " ".join(words[at : at + length])
