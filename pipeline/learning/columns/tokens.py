"""A column of prose as a row of words: the number of each, for a model that embeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from pipeline.learning.cells import text_of, texts
from pipeline.learning.columns.column import Encoder, Matrix
from pipeline.learning.columns.hashing import bucket_of
from pipeline.learning.columns.prose import Prose

if TYPE_CHECKING:
    import pandas as pd


class Tokens(Prose):
    """The first words and words in a row, each hashed into one of `buckets` numbers from 1; 0 where there is none."""

    kind: Literal["tokens"] = Field(description="Prose, for a model that embeds words.")
    length: int = Field(64, ge=1, le=1024, description="Words of a text that are read; those that come later are not.")
    buckets: int = Field(4096, ge=2, le=2**22, description="Numbers that words are hashed into.")

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.length, self.buckets, self.ngrams]

    @property
    def width(self) -> int:
        return self.length

    @property
    def vocabulary(self) -> int | None:
        return self.buckets + 1

    def encoded(self, values: pd.Series) -> Matrix:
        """Numbers of the words, in their order; then those of the longer n-grams."""
        ids = np.zeros((len(values), self.length), dtype=np.float32)
        encode = self.encoder()
        for row, text in zip(ids, texts(values), strict=True):
            encode(text, row)
        return ids

    def encoder(self) -> Encoder:
        def encode(value: str, into: Matrix) -> None:
            for at, word in zip(range(self.length), self.words(text_of(value)), strict=False):
                into[at] = 1 + bucket_of(word, self.buckets)

        return encode
