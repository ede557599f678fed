"""A net that is learned from sums: each round asks for one vector of whole numbers, and what is known after it follows
from the sum alone."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from pipeline.learning.models.net import Net, Weights
from pipeline.learning.tasks.task import Task
from privacy.noise import Integers

NORM = 1024
"""L2 norm of what one record adds to a vector, at most, in every round: all rounds cost the same."""


class Summing(Net):
    """Its parameters are all that is known: how many sums it has seen comes first. They are the same on every machine
    that saw the same sums, so `advance` adds and multiplies one number after the other and nothing else."""

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How many sums it asks for."""

    @abstractmethod
    def size(self, task: Task, step: int, number: int | None = None) -> int:
        """Numbers in the vector that it asks for after `step` sums, in round `number`; None: no round was lost."""

    @abstractmethod
    def count(
        self, task: Task, weights: Weights, features: Weights, targets: Weights, number: int | None = None
    ) -> Integers:
        """The vector of these records, exact. What one record adds to it has an L2 norm of at most `NORM`."""

    @abstractmethod
    def advance(
        self, task: Task, weights: Weights, total: Integers, noise: float, number: int | None = None
    ) -> Weights:
        """What is known after one more sum; noise: deviation in each of its numbers.

        Raises ValueError for a sum that no records could have.
        """

    def steps(self, weights: Weights) -> int:
        """How many sums it has seen."""
        return int(np.clip(weights[0], 0, self.rounds))
