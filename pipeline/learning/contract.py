"""The data contract: which columns enter, their declared bounds and categories, and which may never enter.

What preprocessing needs is declared here, by people, before anyone looks at data, and costs nothing. What is left open
(edges of quantiles) is fitted to statistics that were charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from pipeline.kinds import Frozen
from pipeline.learning.columns.column import Column
from pipeline.learning.queries.statistics import Statistics
from pipeline.learning.tasks.task import Task


def with_task(tree: Any) -> Any:
    """`label: {column, positive}` is short for a binary task, and was all there was."""
    if isinstance(tree, Mapping) and "label" in tree and "task" not in tree:
        rest = {name: value for name, value in tree.items() if name != "label"}
        label = tree["label"]
        return {**rest, "task": {"kind": "binary", **label} if isinstance(label, Mapping) else label}
    return tree


class DataContract(Frozen):
    """The columns that enter, the outcome to predict, and the columns that never may."""

    model_config = ConfigDict(json_schema_extra={"$comment": "label: {column, positive} is short for a binary task"})

    task: Task = Field(description="The outcome to predict. `label: {column, positive}` is short for a binary one.")
    columns: dict[str, Column] = Field(min_length=1, description="Feature columns by name.")
    forbidden: dict[str, str] = Field(
        default_factory=dict,
        description="Columns that must not become features, each with the reason (known only afterwards, leaks).",
    )
    holdout: float = Field(0.2, gt=0, lt=1, description="Fraction of records held out for evaluation.")
    min_rows: int = Field(100, ge=2, description="A client that declares fewer rows does not take part.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, tree: Any) -> Any:
        return with_task(tree)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.task.column in self.columns:
            raise ValueError(f"column {self.task.column!r} is the outcome and cannot be a feature")
        if clash := sorted({*self.columns, self.task.column} & set(self.forbidden)):
            reasons = "; ".join(f"{name}: {self.forbidden[name]}" for name in clash)
            raise ValueError(f"forbidden columns among the features ({reasons}). Remove them from data.columns")
        return self

    def refusals(self, columns: Mapping[str, Column], task: Task) -> Iterator[str]:
        """What a run over these columns asks for that this contract does not grant. Names declarations, never data."""
        if (type(task), task.declared) != (type(self.task), self.task.declared):
            yield f"it learns {task.said}"
        for name, column in columns.items():
            if name not in self.columns:
                yield f"it uses the column {name}"
            elif column.declared != self.columns[name].declared:
                yield f"it declares the column {name} otherwise"

    def distribution(self, fine: int) -> Statistics:
        """The question how the columns are distributed, in the order of their names: how a run lists them is no part of
        it."""
        columns = dict(sorted(self.columns.items()))
        return Statistics(columns=columns, groups=tuple(self.task.group_names), fine=fine)

    def example(self) -> dict[str, float | str]:
        """One row made from the declarations alone."""
        return {name: column.usual for name, column in self.columns.items()}
