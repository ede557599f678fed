"""What a model is given: how the features of the columns lie side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.learning.columns.column import Column, Matrix


@dataclass(frozen=True)
class Part:
    """The features of one column: from `at` on, in row-major order of `shape`. vocabulary: they are numbers of words
    below it; None: they are quantities. column: what they are the features of, where that is known."""

    name: str
    at: int
    shape: tuple[int, ...]
    vocabulary: int | None = None
    column: Column | None = None

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @property
    def slice(self) -> slice:
        """Where they stand in a row."""
        return slice(self.at, self.at + self.width)


@dataclass(frozen=True)
class Shape:
    """Of float32 features [rows, width]."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, columns: Mapping[str, Column]) -> Self:
        parts, at = [], 0
        for name, column in columns.items():
            parts.append(Part(name, at, column.shape, column.vocabulary, column))
            at += column.width
        return cls(tuple(parts))

    @classmethod
    def flat(cls, width: int) -> Self:
        """So many quantities."""
        return cls((Part("features", 0, (width,)),))

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(part.width for part in self.parts)

    def examples(self, rows: int) -> Matrix:
        """Made-up features [rows, width], the same every time: quantities in [0, 1], numbers of words."""
        generator = np.random.default_rng(7)
        made = generator.uniform(0, 1, (rows, self.width)).astype(np.float32)
        for part in self.words:
            made[:, part.slice] = generator.integers(0, part.vocabulary or 1, (rows, part.width))
        return made

    @property
    def images(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if len(part.shape) == 3)

    @property
    def words(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.vocabulary is not None)

    @property
    def quantities(self) -> tuple[Part, ...]:
        """Parts that are neither images nor words."""
        return tuple(part for part in self.parts if part.vocabulary is None and len(part.shape) == 1)
