"""A linear model: logistic, multinomial or linear regression, as the task has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.learning.models.layered import Layered
from pipeline.learning.models.mlp import refuse_words
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Net
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Linear(Model):
    """One weight a feature and output, and a bias."""

    kind: Literal["linear"] = Field(description="One weight a feature.")

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        net = self.net(shape, outputs, 0)
        return net.module(net.initial())

    def fits(self, shape: Shape) -> None:
        refuse_words(shape, self.kind)

    def net(self, shape: Shape, outputs: int, seed: int) -> Net:
        return Layered((shape.width, outputs), seed=seed)
