"""A model for given features and outputs: its parameters as one vector, and what it says with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from pipeline.learning.tasks.task import Task

Weights = npt.NDArray[np.float32]
"""All trained parameters as one vector, in the order of the module's parameters, each row by row."""

PROBED = 5
"""Made-up records on which a model is tried."""

WEIGHTS, GRAPH, TOLD, BOOSTED = "weights.safetensors", "graph.onnx", "shapes.json", "xgboost.json"
"""Files of a version."""


class Net(ABC):
    """What training, evaluation and registration need of a model."""

    checked: ClassVar[bool]
    """Whether its layers are known to be sound; else they are probed before anything is charged."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many are trained."""

    @property
    def shared(self) -> int:
        """How many of them, from the first, all clients share; the others are each client's own."""
        return self.parameters

    @property
    def frozen(self) -> str:
        """Digest of what is not trained; empty: nothing is."""
        return ""

    @abstractmethod
    def examples(self, rows: int) -> Weights:
        """Made-up features [rows, width], the same every time."""

    @abstractmethod
    def initial(self) -> Weights:
        """The parameters before training: the same on every machine."""

    @abstractmethod
    def module(self, weights: Weights) -> torch.nn.Module:
        """The module with these parameters: float32 features [rows, width] to [rows, outputs]."""

    @abstractmethod
    def outputs(self, weights: Weights, features: Weights) -> Weights:
        """What it says of each row: float32 [rows, outputs]."""

    def told(self, task: Task, weights: Weights) -> Mapping[str, dict[str, Any]]:
        """What it has learned, for others: JSON documents by the names of their files."""
        return {}

    def contributions(self, weights: Weights, features: Weights) -> dict[str, Weights] | None:
        """What each column adds to the outputs of each row [rows, outputs]: they add up to `outputs`. None: it cannot
        be said."""
        return None

    def from_tensors(self, tensors: Mapping[str, Weights]) -> Weights:
        """The parameters from the tensors of a version that has no graph. Raises ValueError."""
        raise ValueError("a version without its graph")

    @abstractmethod
    def files(self, weights: Weights) -> Mapping[str, bytes]:
        """What a version of it consists of: enough to answer, without the class it was made by."""
