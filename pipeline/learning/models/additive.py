"""An additive model: the effects of the columns, one shape each, and of some pairs of them, added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Additive(Model):
    """A generalised additive model (Lou, Caruana and Gehrke 2012; with pairs 2013), learned from sums of residuals.

    It takes no local steps, so nothing of `training` matters. Each round is one sum over all clients, so noise that
    they share (`privacy.noise: shared`) suffices.
    """

    kind: Literal["additive"] = Field(description="Shapes of columns and of pairs of them, added.")
    bins: int = Field(32, ge=4, le=512, description="Even parts of a quantity once it is scaled.")
    rounds: int = Field(40, ge=8, le=1000, description="Sums that it is learned from; each has its part of the noise.")
    pairs: int | tuple[tuple[str, str], ...] = Field(
        3, description="How many pairs of columns to find, at the price of one sum; or which ones; 0: none."
    )
    cells: int = Field(8, ge=2, le=64, description="Parts of either column of a pair.")
    monotone: Mapping[str, Literal["rising", "falling"]] = Field(
        default_factory=dict, description="Quantities whose effect only rises, or only falls."
    )

    NET: ClassVar[str] = "pipeline.learning.models.shapes:Shapes"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if isinstance(self.pairs, int):
            if not 0 <= self.pairs <= 64:
                raise ValueError(f"expected 0 to 64 pairs, got {self.pairs}")
        elif any(first == second for first, second in self.pairs):
            raise ValueError("a pair is of two columns")
        return self

    @property
    def sums(self) -> int:
        return self.rounds

    def fits(self, shape: Shape) -> None:
        """Every column has bins, and those that are named are columns."""
        axes = {part.name: part.column.axes(self.bins) if part.column else () for part in shape.parts}
        for name, found in axes.items():
            if not found:
                raise ValueError(f"column {name} has no bins, and model additive is learned from counts in bins")
        declared = () if isinstance(self.pairs, int) else self.pairs
        for name in (*(name for pair in declared for name in pair), *self.monotone):
            if name not in axes:
                raise ValueError(f"model additive names {name}, which is no column of data.columns")
        for name in self.monotone:
            if axes[name][0].kind != "even":
                raise ValueError(f"monotone: column {name} is no quantity")

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        return self.net(shape, outputs, 0).module(np.zeros(0, dtype=np.float32))
