"""A model of one's own: columns that find out by attention what belongs together."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape


class Mixer(Model):
    """Features become four points, attention mixes them, and one layer judges. Its settings are the configuration's."""

    kind: str
    width: int = 8
    dropout: float = 0.1

    def module(self, shape: Shape, outputs: int) -> nn.Module:
        return _Mixer(shape.width, self.width, self.dropout, outputs)


class _Mixer(nn.Module):
    def __init__(self, features: int, width: int, dropout: float, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(features, 4 * width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.judge = nn.Linear(4 * width, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        points = torch.tanh(self.squeeze(features)).unflatten(1, (4, -1))
        mixed = self.norm(points + self.attention(points, points, points, need_weights=False)[0])
        out: torch.Tensor = self.judge(self.dropout(mixed.flatten(1)))
        return out
