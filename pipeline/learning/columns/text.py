"""A column of prose: the words it uses, hashed into buckets."""

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


class Text(Prose):
    """A bag of words and of words in a row, in lower case: how often each is used, as a vector of length one.

    Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", without signs: two that share a bucket
    are one to the model.
    """

    kind: Literal["text"] = Field(description="Prose.")
    buckets: int = Field(256, ge=2, le=4096, description="Features that the words are hashed into.")

    @property
    def declared(self) -> list[object]:
        return [self.kind, self.buckets, self.ngrams]

    @property
    def width(self) -> int:
        return self.buckets

    def encoded(self, values: pd.Series) -> Matrix:
        """How often each bucket is met, over the length of the vector; a text without words is zero."""
        made = np.zeros((len(values), self.buckets), dtype=np.float32)
        encode = self.encoder()
        for row, text in zip(made, texts(values), strict=True):
            encode(text, row)
        return made

    def encoder(self) -> Encoder:
        def encode(value: str, into: Matrix) -> None:
            counts = np.zeros(self.buckets, dtype=np.float64)
            for word in self.words(text_of(value)):
                counts[bucket_of(word, self.buckets)] += 1.0
            into[:] = counts / max(float(np.linalg.norm(counts)), 1.0)

        return encode
