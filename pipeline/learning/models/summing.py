"""A net that is learned from sums: each round asks for one vector of whole numbers, and what is known after it follows
from the sum alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.learning.models.net import WEIGHTS, Net, Weights
from pipeline.learning.shape import Shape
from pipeline.learning.tasks.task import Task
from privacy.errors import KindUnfit
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import torch

NAMED = "known"
"""The tensor of a version."""

NORM = 1024
"""L2 norm of what one record adds to a vector, at most, in every round: all rounds cost the same."""


@dataclass(frozen=True)
class Parts:
    """How what is known lies in the vector of parameters: the shape of each part, by its name, in order."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    def read(self, weights: Weights) -> dict[str, Floats]:
        """The parts of a copy of the vector."""
        vector, at, parts = weights.astype(np.float64), 0, {}
        for name, shape in self.shapes.items():
            parts[name] = vector[at : at + math.prod(shape)].reshape(shape)
            at += math.prod(shape)
        return parts

    def written(self, known: object) -> Weights:
        """The vector of a value that has each part under its name."""
        return np.concatenate([getattr(known, name).reshape(-1) for name in self.shapes]).astype(np.float32)


class Summing(Net):
    """Its parameters are all that is known: how many sums it has seen comes first. They are the same on every machine
    that saw the same sums, so `advance` adds and multiplies one number after the other and nothing else."""

    shape: Shape
    checked: ClassVar[bool] = True

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """How the parameters lie; the first part is `seen` [1], how many sums they follow from."""

    @property
    def parameters(self) -> int:
        return self.parts.size

    def examples(self, rows: int) -> Weights:
        return self.shape.examples(rows)

    def initial(self) -> Weights:
        """Nothing is known."""
        return np.zeros(self.parameters, dtype=np.float32)

    def module(self, weights: Weights) -> torch.nn.Module:
        """Raises KindUnfit: there is nothing to take local steps with."""
        raise KindUnfit("a model that is learned from sums takes no local steps", travels=True)

    def files(self, weights: Weights) -> Mapping[str, bytes]:
        from safetensors.numpy import save

        return {WEIGHTS: save({NAMED: weights.astype(np.float32)})}

    def from_tensors(self, tensors: Mapping[str, Weights]) -> Weights:
        """The reverse of `files`. Raises ValueError for anything else."""
        if set(tensors) != {NAMED} or tensors[NAMED].shape != (self.parameters,):
            raise ValueError(f"expected one vector {NAMED} of {self.parameters} numbers")
        return tensors[NAMED].astype(np.float32)

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
