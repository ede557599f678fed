"""A convolutional network over one image, and whatever else is known beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.learning.models.dense import judging
from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Conv(Model):
    """Convolutions, each normalised within groups of its channels and halved by pooling; then fully connected layers.

    No batch normalisation: it mixes records. Group normalisation: Wu and He 2018.
    """

    kind: Literal["conv"] = Field(description="Convolutions over an image.")
    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (16, 32), min_length=1, description="Channels of each convolution."
    )
    kernel: int = Field(3, ge=1, le=15, multiple_of=1, description="Side of the filters; odd.")
    groups: int = Field(4, ge=0, description="Groups of channels that are normalised together; 0: no normalisation.")
    hidden: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field((32,), description="Fully connected layers.")

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel, got {self.kernel}")
        for channels in self.channels:
            if self.groups and channels % self.groups:
                raise ValueError(f"{channels} channels are no whole number of {self.groups} groups")
        return self

    def fits(self, shape: Shape) -> None:
        if len(shape.images) != 1:
            raise ValueError(f"model conv takes one image column, and there are {len(shape.images)}")
        if shape.words:
            raise ValueError(f"model conv takes no tokens, and column {shape.words[0].name} is")
        _, height, width = shape.images[0].shape
        if min(height, width) < 2 ** len(self.channels):
            raise ValueError(f"an image of {width} x {height} cannot be halved {len(self.channels)} times")

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        import torch
        from torch import nn

        (image,) = shape.images
        beside = [place for part in shape.quantities for place in range(part.at, part.at + part.width)]
        size, height, width = image.shape
        layers: list[nn.Module] = []
        for channels in self.channels:
            layers.append(nn.Conv2d(size, channels, self.kernel, padding=self.kernel // 2))
            layers += [nn.GroupNorm(self.groups, channels)] if self.groups else []
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            size, height, width = channels, height // 2, width // 2
        inputs = size * height * width + len(beside)
        tail = judging(inputs, self.hidden, outputs)

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.seen, self.judged = nn.Sequential(*layers), tail

            def forward(self, features: torch.Tensor) -> torch.Tensor:
                seen = self.seen(features[:, image.slice].reshape(-1, *image.shape)).flatten(1)
                judged: torch.Tensor = self.judged(torch.cat([seen, features[:, beside]], 1) if beside else seen)
                return judged

        return Network()
