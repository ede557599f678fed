"""Kinds of columns: what each declares, and what two declarations must have in common to mean the same."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipeline.kinds import Frozen
from pipeline.learning.cells import text_of


class Numeric(Frozen):
    """A numeric column, scaled to [0, 1] by its declared bounds, with a flag for unknown values."""

    kind: Literal["numeric"] = Field(description="A number within declared bounds.")
    low: float = Field(description="Smallest value; smaller ones are clipped and warned about.")
    high: float = Field(description="Largest value; larger ones are clipped and warned about.")
    unknown: tuple[float, ...] = Field((), description="Codes that stand for an unknown value.")
    example: float | None = Field(None, description="A value for documentation and the first prediction.")

    @property
    def declaration(self) -> tuple[object, ...]:
        """What two declarations must have in common to mean the same."""
        return self.kind, self.low, self.high, frozenset(self.unknown)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        return self


class Categorical(Frozen):
    """A column of names, one-hot encoded over its declared categories and one more place for anything else."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    kind: Literal["categorical"] = Field(description="One of a declared list of names.")
    categories: tuple[str, ...] = Field(
        min_length=2, description="All values that may occur; the first, best the usual one, is the reference."
    )
    example: str | None = Field(None, description="A value for documentation and the first prediction.")

    @property
    def declaration(self) -> tuple[object, ...]:
        """What two declarations must have in common to mean the same."""
        return self.kind, frozenset(self.categories)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [text_of(name) for name in self.categories]  # 1 and 1.0 are one cell
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"categories must be distinct; twice: {', '.join(twice)}")
        if self.example is not None and self.example not in self.categories:
            raise ValueError(f"example {self.example!r} is not one of the categories")
        return self


Column = Annotated[Numeric | Categorical, Field(discriminator="kind")]
