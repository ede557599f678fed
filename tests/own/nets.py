"""Models of one's own: a sound one, one on a frozen backbone, and every way to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape


class Small(Model):
    """With dropout, attention between the features, and normalisation within a record."""

    kind: Literal["tests.own.nets:Small"] = "tests.own.nets:Small"
    width: int = 8

    def module(self, shape: Shape, outputs: int) -> nn.Module:
        return _Small(shape.width, self.width, outputs)


class _Small(nn.Module):
    def __init__(self, features: int, width: int, outputs: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(features, width))
        self.into, self.norm = nn.Linear(1, width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.dropped, self.out = nn.Dropout(0.1), nn.Linear(features * width, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        each = torch.tanh(self.into(features.unsqueeze(2)) + self.places)
        mixed = self.norm(each + self.attention(each, each, each, need_weights=False)[0])
        out: torch.Tensor = self.out(self.dropped(mixed.flatten(1)))
        return out


class Adapted(Model):
    """A frozen backbone from the owner's installation, and a small adapter beside it (Hu et al. 2021)."""

    kind: Literal["tests.own.nets:Adapted"] = "tests.own.nets:Adapted"
    rank: int = 2
    backbone: int = 64

    def module(self, shape: Shape, outputs: int) -> nn.Module:
        return _Adapted(shape.width, self.backbone, self.rank, outputs)


class _Adapted(nn.Module):
    def __init__(self, width: int, backbone: int, rank: int, outputs: int) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(width, backbone), nn.Tanh(), nn.Linear(backbone, backbone))
        self.frozen.requires_grad_(False)
        self.register_buffer("scale", torch.full((1,), 0.5))
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, backbone, bias=False)
        self.head = nn.Linear(backbone, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.frozen(features) + self.scale * self.up(self.down(features))))
        return out


class Wrong(Model):
    """how: in which way."""

    kind: Literal["tests.own.nets:Wrong"] = "tests.own.nets:Wrong"
    how: str

    def module(self, shape: Shape, outputs: int) -> Any:
        return _WRONG[self.how](shape.width, outputs)


class _Called(nn.Module):
    def __init__(self, width: int, outputs: int, forward: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.out, self._way = nn.Linear(width, 4), nn.Linear(4, outputs), forward

    def forward(self, features: torch.Tensor) -> Any:
        return self._way(self.out(torch.tanh(self.layer(features))))


class _InPlace(_Called):
    def forward(self, features: torch.Tensor) -> Any:
        features.clamp_(max=0.5)
        return super().forward(features)


def _frozen(width: int, outputs: int) -> nn.Module:
    return nn.Linear(width, outputs).requires_grad_(False)


def _spoilt(width: int, outputs: int) -> nn.Module:
    layer = nn.Linear(width, outputs)
    nn.init.constant_(layer.weight, math.nan)
    return layer


def _fails(width: int, outputs: int) -> nn.Module:
    raise RuntimeError("a secret of the module")


_WRONG: dict[str, Callable[[int, int], Any]] = {
    "batch norm": lambda w, o: nn.Sequential(nn.Linear(w, 4), nn.BatchNorm1d(4), nn.Linear(4, o)),
    "batch norm without memory": lambda w, o: nn.Sequential(
        nn.Linear(w, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, o)
    ),
    "mean of the batch": lambda w, o: _Called(w, o, lambda out: out - out.mean(0)),
    "sum of the batch": lambda w, o: _Called(w, o, lambda out: out / out.abs().sum()),
    "frozen": _frozen,
    "not finite": _spoilt,
    "fails": _fails,
    "no module": lambda w, o: "a module",
    "one output more": lambda w, o: nn.Linear(w, o + 1),
    "flat": lambda w, o: _Called(w, o, lambda out: out.reshape(-1)),
    "a pair": lambda w, o: _Called(w, o, lambda out: (out, out)),
    "detached": lambda w, o: _Called(w, o, lambda out: out.detach()),
    "changes what it is given": lambda w, o: _InPlace(w, o, lambda out: out),
    "another width": lambda w, o: nn.Linear(w + 1, o),
}


class NoModel:
    """Installed for other purposes."""

    def __init__(self, **settings: object) -> None:
        raise AssertionError("a coordinator has this made")
