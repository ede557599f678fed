"""What is learned: the outcome, how a prediction is judged, and what is answered."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from pipeline.kinds import Kind
from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.query import Query
from privacy.errors import KindUnfit
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Beginning(NamedTuple):
    """Where learning from sums begins. outputs [outputs]: of a model that knows no column. size: L2 norm of a usual
    record's residuals. reach: how far a column usually moves an output."""

    outputs: Floats
    size: float
    reach: float


class Task(Kind):
    """One outcome, in one column of the table.

    What becomes of a cell depends on that cell alone. A record whose outcome is unknown has the target NaN: it is
    learned nothing from, and is in no metric.
    """

    BUILT_IN: ClassVar[Mapping[str, str]] = {
        "binary": "pipeline.learning.tasks.binary:Binary",
        "classes": "pipeline.learning.tasks.classes:Classes",
        "regression": "pipeline.learning.tasks.regression:Regression",
    }

    measures: ClassVar[Mapping[str, bool]]
    """Its metrics, and whether more of each is better. The first is the headline, by which versions are compared."""

    penalty: ClassVar[str]
    """What `penalties` are called."""

    column: str = Field(description="Column that holds the outcome.")

    @property
    def headline(self) -> str:
        """The metric by which versions are compared."""
        return next(iter(self.measures))

    def worse(self, metric: str, value: float, than: float) -> bool:
        return value < than if self.measures[metric] else value > than

    @property
    @abstractmethod
    def declared(self) -> list[object]:
        """The declaration as JSON that is the same in every process; tasks with equal ones mean the same."""

    @property
    @abstractmethod
    def said(self) -> str:
        """The declaration in words, for an owner who refuses it."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Numbers that the model says of a record."""

    @abstractmethod
    def targets(self, values: pd.Series) -> Matrix:
        """float32 [rows], NaN where the outcome is unknown."""

    @abstractmethod
    def outcomes(self, chances: Floats) -> Matrix:
        """Made-up targets [rows], finite, from numbers [rows] that are uniform in [0, 1)."""

    @abstractmethod
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss [rows] of each record. outputs: [rows, outputs]; targets: [rows]. 0 where the target is NaN."""

    @property
    def meaning(self) -> Literal["logit", "classes", "mean", "median", "rate"]:
        """What the outputs mean to others."""
        raise self._unsummed

    @property
    def _unsummed(self) -> KindUnfit:
        return KindUnfit(
            f"task {self.kind} does not say what a model that is learned from sums asks",
            remedy="Take a model that takes local steps, or give the task moments, beginning, curvature and residuals.",
            travels=True,
        )

    # -- what learning from sums asks --------------------------------------------------------------------------------
    def moments(self, targets: Matrix) -> Floats:
        """Of each record [rows, ...], from 0 to 1, of an L2 norm of at most the root of two: what the beginning follows
        from, as means. targets: finite."""
        raise self._unsummed

    def beginning(self, means: Floats) -> Beginning:
        """From the means of `moments`, which noise may have moved. The same on every machine."""
        raise self._unsummed

    def shift(self, means: Floats, away: Floats) -> Floats:
        """By how much to move the outputs [outputs] of a model whose residuals are `away` [outputs] in the mean."""
        said = means.copy()
        said[: len(away)] -= away
        return self.beginning(means).outputs - self.beginning(said).outputs

    def curvature(self, means: Floats, away: Floats) -> Floats:
        """Mean second derivative of the loss [outputs, ...] among records whose residuals at the beginning, which
        follows from `means`, are `away` [outputs, ...] in the mean."""
        raise self._unsummed

    def residuals(self, outputs: Floats, targets: Matrix) -> Floats:
        """Minus the derivative of each record's loss [rows, outputs]; targets: finite."""
        raise self._unsummed

    @property
    def steepest(self) -> float:
        """Second derivative of a record's loss, at most."""
        raise self._unsummed

    def steepness(self, outputs: Floats) -> Floats:
        """Second derivative of each record's loss [rows, outputs], of each output by itself."""
        raise self._unsummed

    @abstractmethod
    def predictions(self, outputs: Matrix) -> Floats:
        """What the question of the task counts by [rows, ...], from the model's outputs [rows, outputs]."""

    @abstractmethod
    def penalties(self, predictions: Floats, targets: Matrix) -> Floats:
        """How far each prediction was from its outcome [rows], from 0 to 1: what versions that answer are compared by
        when outcomes come. A proper score, so that it pays to say what one believes. NaN where the target is.
        """

    @abstractmethod
    def question(self, bins: int) -> Query:
        """What is asked of the held-out records, with about so many bins."""

    @abstractmethod
    def answers(self, outputs: Matrix, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
        """What the endpoint says of each row. metrics: of the version."""

    @property
    @abstractmethod
    def answer_schema(self) -> dict[str, object]:
        """JSON Schema of one answer."""

    # -- what the checks of a client's data count by ----------------------------------------------------------------
    @property
    @abstractmethod
    def groups(self) -> int:
        """Groups of outcomes in which the checks count; a row is in one of them."""

    @property
    @abstractmethod
    def group_names(self) -> list[str]:
        """What they are called."""

    @property
    @abstractmethod
    def broken(self) -> int | None:
        """The group of what breaks the declaration; None: nothing can."""

    @property
    def breaks(self) -> Literal["bounds", "categories"]:
        """The check that says how many outcomes break the declaration."""
        return "categories"

    @property
    def balanced(self) -> bool:
        """Whether a small group is worth a warning."""
        return True

    @abstractmethod
    def grouped(self, values: pd.Series) -> Integers:
        """The group of each row."""


def certain(share: float) -> float:
    """A share that noise may have moved, away from what would be certainty."""
    return min(max(share, 1e-4), 1.0 - 1e-4)


def log(value: float) -> float:
    """The natural logarithm, the same on every machine: libraries differ in the last bit."""
    return round(math.log(value), 9)
