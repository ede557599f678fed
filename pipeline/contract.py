"""The data contract: which columns enter, their declared bounds and categories, and which may never enter.

Everything that preprocessing needs is declared here, by people, before anyone looks at data: nothing is fitted, so
nothing has to be charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.cells import text_of


class Frozen(BaseModel):
    """A value: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Label(Frozen):
    """What is predicted: whether `column` holds one of `positive`."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    column: str = Field(description="Column that holds the outcome.")
    positive: tuple[str, ...] = Field(min_length=1, description="Values that count as the positive class.")


class DataContract(Frozen):
    """The columns that enter, the label, and the columns that never may."""

    label: Label = Field(description="The outcome to predict.")
    columns: dict[str, Column] = Field(min_length=1, description="Feature columns by name.")
    forbidden: dict[str, str] = Field(
        default_factory=dict,
        description="Columns that must not become features, each with the reason (known only afterwards, leaks).",
    )
    holdout: float = Field(0.2, gt=0, lt=1, description="Fraction of records held out for evaluation.")
    min_rows: int = Field(100, ge=2, description="A client that declares fewer rows does not take part.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.label.column in self.columns:
            raise ValueError(f"column {self.label.column!r} is the label and cannot be a feature")
        if clash := sorted({*self.columns, self.label.column} & set(self.forbidden)):
            reasons = "; ".join(f"{name}: {self.forbidden[name]}" for name in clash)
            raise ValueError(f"forbidden columns among the features ({reasons}). Remove them from data.columns")
        return self

    def refusals(self, columns: Mapping[str, Column], label: Label) -> Iterator[str]:
        """What a run over these columns asks for that this contract does not grant. Names declarations, never data."""
        if (label.column, set(label.positive)) != (self.label.column, set(self.label.positive)):
            yield f"its label is {label.column} in ({', '.join(label.positive)})"
        for name, column in columns.items():
            if name not in self.columns:
                yield f"it uses the column {name}"
            elif column.declaration != self.columns[name].declaration:
                yield f"it declares the column {name} otherwise"

    def example(self) -> dict[str, float | str]:
        """One row made from the declarations alone."""
        row: dict[str, float | str] = {}
        for name, column in self.columns.items():
            if isinstance(column, Numeric):
                row[name] = (column.low + column.high) / 2 if column.example is None else column.example
            else:
                row[name] = column.categories[0] if column.example is None else column.example
        return row
