"""A question to all clients: what each counts, and what follows from the sum of their counts."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pipeline.kinds import Kind
from pipeline.learning.columns.column import Matrix
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd


class Measured(NamedTuple):
    """error: one standard error, of sampling and of privacy noise."""

    value: float
    error: float


@dataclass(frozen=True)
class Rows:
    """The records that a question is about. targets: float32 [rows], NaN where the record has none. frame,
    groups: the raw rows and the group of outcomes that each is in, where the question is about those."""

    targets: Matrix
    frame: pd.DataFrame | None = None
    groups: Integers | None = None


class Query(Kind):
    """The answer is the sum of one vector of whole numbers from each client, and nothing else.

    What one record adds to the vector has an L2 norm of at most `norm`: the noise of every answer is so many times that
    of a count. A question whose norm is 1 adds one to one number.
    """

    BUILT_IN: ClassVar[Mapping[str, str]] = {
        "scores": "pipeline.learning.queries.scores:Scores",
        "confusion": "pipeline.learning.queries.confusion:Confusion",
        "residuals": "pipeline.learning.queries.residuals:Residuals",
        "statistics": "pipeline.learning.queries.statistics:Statistics",
    }

    @property
    @abstractmethod
    def size(self) -> int:
        """Numbers in the vector."""

    @property
    @abstractmethod
    def norm(self) -> float:
        """L2 norm of what one record adds, at most."""

    @abstractmethod
    def count(self, rows: Rows, outputs: Floats) -> Integers:
        """The vector [size], exact. outputs: what the task predicts of each record [rows, ...]; any of them may be no
        number, and must be taken as some number then: an error would say that such a record exists."""

    @abstractmethod
    def read(self, total: Integers, noise: float) -> dict[str, Measured]:
        """Every metric, from the sum and the deviation of the noise in each of its numbers. Post-processing: free."""

    @abstractmethod
    def curves(self, total: Integers) -> dict[str, list[Any]]:
        """What lies behind the metrics, as columns of equal length: by threshold, class or bin."""


def share_error(share: float, of: float, hits: int, misses: int, noise: float) -> float:
    """One standard error of a share of `of` records, counted in so many numbers of hits and of misses that each have
    noise of deviation `noise`; to first order."""
    of = max(of, 1.0)
    sampled = max(share * (1 - share), 0.0) / of
    return math.sqrt(sampled + noise**2 * (hits * (1 - share) ** 2 + misses * share**2) / of**2)
