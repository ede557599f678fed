"""A linear model: logistic, multinomial or linear regression, as the task has it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.learning.models.dense import Dense
from pipeline.learning.models.layered import Layered
from pipeline.learning.models.net import Net
from pipeline.learning.shape import Shape


class Linear(Dense):
    """One weight a feature and output, and a bias."""

    kind: Literal["linear"] = Field(description="One weight a feature.")

    def net(self, shape: Shape, outputs: int, seed: int) -> Net:
        return Layered((shape.width, outputs), seed=seed)
