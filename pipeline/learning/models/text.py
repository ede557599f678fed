"""Embeddings of words, averaged, and whatever else is known beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.learning.models.dense import judging
from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Text(Model):
    """An embedding for every word and every n-gram, the mean of those of a record, and fully connected layers.

    Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification". Each tokens column has its own embedding.
    """

    kind: Literal["text"] = Field(description="Embedded words, averaged.")
    width: int = Field(64, ge=1, le=1024, description="Numbers that a word is embedded in.")
    hidden: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field((), description="Fully connected layers.")

    def fits(self, shape: Shape) -> None:
        if not shape.words:
            raise ValueError("model text takes tokens, and no column is of that kind")

    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        import torch
        from torch import nn

        words, width = shape.words, self.width
        beside = [
            place for part in shape.parts if part.vocabulary is None for place in range(part.at, part.at + part.width)
        ]
        inputs = width * len(words) + len(beside)
        tail = judging(inputs, self.hidden, outputs)

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                tables = [nn.Embedding(part.vocabulary or 1, width, padding_idx=0) for part in words]
                self.tables, self.judged = nn.ModuleList(tables), tail

            def forward(self, features: torch.Tensor) -> torch.Tensor:
                means = []
                for part, table in zip(words, self.tables, strict=True):
                    ids = features[:, part.slice].long()
                    there = (ids > 0).unsqueeze(2)
                    means.append((table(ids) * there).sum(1) / there.sum(1).clamp(min=1))
                if beside:
                    means.append(features[:, beside])
                judged: torch.Tensor = self.judged(torch.cat(means, 1))
                return judged

        return Network()
