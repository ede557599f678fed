"""What fully connected models have in common, and the fully connected end of others."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Dense(Model, ABC):
    """All features side by side, as quantities."""

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        net = self.net(shape, outputs, 0)
        return net.module(net.initial())

    def fits(self, shape: Shape) -> None:
        """The size of a number of a word means nothing."""
        for part in shape.words:
            told = f"model {self.kind} takes quantities, and column {part.name} is tokens: use kind text for one"
            raise ValueError(told)


def judging(inputs: int, hidden: Sequence[int], outputs: int) -> torch.nn.Sequential:
    """Fully connected layers with ReLU between them: [rows, inputs] to [rows, outputs]."""
    from torch import nn

    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
