"""A multilayer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.learning.models.layered import Activation, Layered
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Net
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Mlp(Model):
    """A multilayer perceptron over all features side by side."""

    kind: Literal["mlp"] = Field("mlp", description="Fully connected layers.")
    hidden: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field((64, 32), description="Widths of hidden layers.")
    activation: Activation = Field("relu", description="Activation of the hidden layers.")
    personal_layers: int = Field(
        0, ge=0, description="Last layers each client keeps as its own; what is served has the clients' mean of them."
    )

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.personal_layers > len(self.hidden):
            raise ValueError(f"personal_layers {self.personal_layers} leaves no layer to share")
        return self

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        net = self.net(shape, outputs, 0)
        return net.module(net.initial())

    def fits(self, shape: Shape) -> None:
        refuse_words(shape, self.kind)

    def net(self, shape: Shape, outputs: int, seed: int) -> Net:
        return Layered((shape.width, *self.hidden, outputs), self.activation, self.personal_layers, seed)


def refuse_words(shape: Shape, kind: str) -> None:
    """Raise ValueError for features that are numbers of words: their size means nothing."""
    for part in shape.words:
        raise ValueError(f"model {kind} takes quantities, and column {part.name} is tokens: use kind text for one")
