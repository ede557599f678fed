"""Boosted trees, learned from sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Trees(Model):
    """Gradient boosting of trees over histograms (Friedman 2001; Newton steps as in Chen and Guestrin 2016).

    best: each level of a tree is one sum of gradients and curvatures in all bins of all columns, and the best splits
    are chosen from it. random: splits are drawn from how full the bins are, so that a tree is one sum over its leaves,
    of which a record is in one: under differential privacy that is better by far (Maddock et al. 2022, who call it TR).
    """

    kind: Literal["trees"] = Field(description="Boosted trees.")
    trees: int = Field(50, ge=1, le=2000, description="Trees, one after the other; with several outputs, of each.")
    depth: int = Field(4, ge=1, le=8, description="Questions that a record is asked by each tree.")
    bins: int = Field(32, ge=4, le=256, description="Even parts of a quantity once it is scaled: a power of two.")
    splits: Literal["best", "random"] = Field("best", description="Chosen from sums, or drawn: under privacy, drawn.")
    learning_rate: float = Field(0.2, gt=0, le=1, description="What each tree is multiplied by.")
    l2: float = Field(1.0, ge=0, allow_inf_nan=False, description="Curvature that every leaf has from the start.")

    NET: ClassVar[str] = "pipeline.learning.models.forest:Forest"

    @field_validator("bins")
    @classmethod
    def _power(cls, bins: int) -> int:
        """So that a bin ends where a 32-bit threshold can say it does."""
        if bins & (bins - 1):
            raise ValueError(f"expected a power of two, got {bins}")
        return bins

    @property
    def sums(self) -> int:
        return 1 + self.trees * (1 if self.splits == "random" else self.depth)

    def fits(self, shape: Shape) -> None:
        for part in shape.parts:
            if not (part.column and part.column.axes(self.bins)):
                raise ValueError(f"column {part.name} has no bins, and model trees is learned from counts in bins")

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        return self.net(shape, outputs, 0).module(np.zeros(0, dtype=np.float32))
