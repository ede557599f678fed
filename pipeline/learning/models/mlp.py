"""A multilayer perceptron."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.learning.models.dense import Dense
from pipeline.learning.models.layered import Activation, Layered
from pipeline.learning.models.net import Net
from pipeline.learning.shape import Shape


class Mlp(Dense):
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

    def net(self, shape: Shape, outputs: int, seed: int) -> Net:
        return Layered((shape.width, *self.hidden, outputs), self.activation, self.personal_layers, seed)
