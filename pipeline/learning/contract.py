"""The data contract: which columns enter, their declared bounds and categories, and which may never enter.

Everything that preprocessing needs is declared here, by people, before anyone looks at data: nothing is fitted, so
nothing has to be charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from pipeline.kinds import Frozen
from pipeline.learning.columns import AnyColumn
from pipeline.learning.columns.column import Column


class Label(Frozen):
    """What is predicted: whether `column` holds one of `positive`."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    column: str = Field(description="Column that holds the outcome.")
    positive: tuple[str, ...] = Field(min_length=1, description="Values that count as the positive class.")


class DataContract(Frozen):
    """The columns that enter, the label, and the columns that never may."""

    label: Label = Field(description="The outcome to predict.")
    columns: dict[str, AnyColumn] = Field(min_length=1, description="Feature columns by name.")
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
            elif column.declared != self.columns[name].declared:
                yield f"it declares the column {name} otherwise"

    def example(self) -> dict[str, float | str]:
        """One row made from the declarations alone."""
        return {name: column.usual for name, column in self.columns.items()}
