"""The sum over a batch of each record's gradient, clipped: the fastest way that is right for the model.

Which way is right is found out, not believed: on made-up records each has to give what the gradients of single records
give, taken one by one. A layer that works in place, one that is used twice, a parameter outside of any layer: what a
way does not see, it gets wrong there, and the next one is tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from privacy.bookkeeping import Bookkeeper, LayerReused
from privacy.parameters import trained_parameters

# A first layer that reads whole numbers has no gradient to hand on: that is what it is like.
warnings.filterwarnings("ignore", message="Full backward hook is firing")

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Outputs [rows, k] and targets [rows] to the loss of each record [rows]."""

SMALL = 1e-6
"""Added to a norm before the clipping norm is divided by it, as Opacus does."""
_NUMBERS = 64_000_000
"""Of gradients of single records that are held at a time."""
_RIGHT = 1e-4
"""How far a way may be off, relative to the clipping norm: float32 adds up in another order."""


class Way(Protocol):
    """One way for one model."""

    def clipped_sum(self, features: torch.Tensor, targets: torch.Tensor, losses: Losses) -> None:
        """Set every trained parameter's `grad` to the sum of the records' gradients, each clipped; zeros for an empty
        batch. A record whose gradient is not finite contributes nothing."""

    def close(self) -> None:
        """Leave the model as it was found."""


class ClippedGradients:
    """The fastest way that is right for a model.

    It sets zeros where there is no gradient, so that noise is added to every parameter in every step, and holds no more
    gradients of single records at a time than memory does.
    """

    def __init__(self, model: nn.Module, clipping_norm: float, examples: torch.Tensor) -> None:
        """examples: made-up features [rows, width], at least two rows."""
        self._trained = trained_parameters(model)
        self._slow = OneByOne(model, clipping_norm)
        self.way = _right_way(model, clipping_norm, examples, self._slow)
        self._each = max(1, _NUMBERS // max(1, sum(p.numel() for p in self._trained)))

    def clipped_sum(self, features: torch.Tensor, targets: torch.Tensor, losses: Losses) -> None:
        at_once = len(features) if isinstance(self.way, Bookkeeper) else self._each
        total: list[torch.Tensor | None] = [None] * len(self._trained)
        for at in range(0, len(features), max(1, at_once)):
            rows = slice(at, at + at_once)
            for p in self._trained:
                p.grad = None
            try:
                self.way.clipped_sum(features[rows], targets[rows], losses)
            except LayerReused:  # only on some records
                self.way.close()
                self.way, total = self._slow, [None] * len(self._trained)
                self.way.clipped_sum(features, targets, losses)
            total = [_added(sum_, p.grad) for sum_, p in zip(total, self._trained, strict=True)]
        for p, sum_ in zip(self._trained, total, strict=True):
            p.grad = torch.zeros_like(p) if sum_ is None else sum_

    def close(self) -> None:
        self.way.close()


def _right_way(model: nn.Module, clipping_norm: float, examples: torch.Tensor, slow: Way) -> Way:
    """The fastest that gives on `examples` what the slow one does."""
    weights = torch.linspace(0.5, 1.5, len(examples))

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weighed = outputs * torch.linspace(-1.0, 1.0, outputs.shape[1] + 1)[1:]
        return weighed.square().sum(1) * targets + outputs.sum(1)

    def found(way: Way) -> list[torch.Tensor]:
        way.clipped_sum(examples, weights, losses)
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained_parameters(model)]

    with _certain(model):
        wanted = found(slow)
        for way in _ways(model, clipping_norm):
            with suppress(Exception):  # a way that does not know a layer says so by anything
                worst = max(float((a - b).abs().max()) for a, b in zip(found(way), wanted, strict=True))
                if worst <= _RIGHT * clipping_norm:
                    return way
            way.close()
    return slow


def _ways(model: nn.Module, clipping_norm: float) -> Iterator[Way]:
    """Fastest first."""
    if Bookkeeper.supports(model):
        yield Bookkeeper(model, clipping_norm)
    for whole in (False, True):
        with suppress(Exception):
            yield Hooked(model, clipping_norm, whole=whole)
    yield Vectorised(model, clipping_norm)


def _added(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return a if b is None else b if a is None else a.add_(b)


class Hooked:
    """Opacus's gradients of each record."""

    def __init__(self, model: nn.Module, clipping_norm: float, *, whole: bool = False) -> None:
        """whole: the pass goes back to every parameter, not to the first alone. Raises what Opacus raises for layers
        that it does not know."""
        self._model, self._clipping_norm = model, clipping_norm
        self._wrapped = GradSampleModule(model, loss_reduction="sum")
        self._trained = trained_parameters(model)
        self._first = None if whole else self._trained[:1]

    def clipped_sum(self, features: torch.Tensor, targets: torch.Tensor, losses: Losses) -> None:
        try:
            # A pass back to the first parameter shows every layer behind it its gradients, and does without the
            # ordinary ones of all others, which nobody wants. Where something does not lie behind it, it is not right.
            losses(self._wrapped(features), targets).sum().backward(inputs=self._first)  # type: ignore[no-untyped-call]
            samples: list[torch.Tensor | None] = [getattr(p, "grad_sample", None) for p in self._trained]
            if self._first and any(each is None for each in samples):
                raise LayerReused
            _clip_and_add(self._trained, samples, self._clipping_norm)
        finally:
            for p in self._trained:
                p.grad_sample = None  # type: ignore[attr-defined]  # Opacus keeps it alive in cycles

    def close(self) -> None:
        self._wrapped.to_standard_module()
        for p in self._model.parameters():  # what a pass that ended half-way has left: the next one would add to it
            for name in ("grad_sample", "_current_grad_sample", "_forward_counter"):
                if hasattr(p, name):
                    delattr(p, name)
        for module in self._model.modules():
            for name in ("activations", "max_batch_len"):
                if hasattr(module, name):
                    delattr(module, name)


class Vectorised:
    """Gradients of each record by `torch.func`: for parameters that no layer's hook sees."""

    def __init__(self, model: nn.Module, clipping_norm: float) -> None:
        self._model, self._clipping_norm = model, clipping_norm

    def clipped_sum(self, features: torch.Tensor, targets: torch.Tensor, losses: Losses) -> None:
        from torch.func import functional_call, grad, vmap

        named = {name: p for name, p in self._model.named_parameters() if p.requires_grad}

        def one(values: dict[str, torch.Tensor], row: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return losses(functional_call(self._model, values, (row.unsqueeze(0),)), target.unsqueeze(0))[0]

        each = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")
        samples = each({name: p.detach() for name, p in named.items()}, features, targets)
        _clip_and_add(list(named.values()), [samples[name] for name in named], self._clipping_norm)

    def close(self) -> None:
        """Nothing was changed."""


class OneByOne:
    """One pass a record: right for every model, and slow."""

    def __init__(self, model: nn.Module, clipping_norm: float) -> None:
        self._model, self._clipping_norm = model, clipping_norm

    def clipped_sum(self, features: torch.Tensor, targets: torch.Tensor, losses: Losses) -> None:
        trained = trained_parameters(self._model)
        total = [torch.zeros_like(p) for p in trained]
        for k in range(len(features)):
            loss = losses(self._model(features[k : k + 1]), targets[k : k + 1]).sum()
            found: Sequence[torch.Tensor | None] = [None] * len(trained)
            if loss.requires_grad:
                found = torch.autograd.grad(loss, trained, allow_unused=True)
            norm = torch.stack([g.norm() for g in found if g is not None] or [torch.zeros(())]).norm()
            if torch.isfinite(norm):
                factor = (self._clipping_norm / (norm + SMALL)).clamp(max=1.0)
                for into, g in zip(total, found, strict=True):
                    if g is not None:
                        into.add_(g * factor)
        for p, gradient in zip(trained, total, strict=True):
            p.grad = gradient

    def close(self) -> None:
        """Nothing was changed."""


def _clip_and_add(trained: list[nn.Parameter], samples: list[torch.Tensor | None], clipping_norm: float) -> None:
    parts = [torch.linalg.vector_norm(each.flatten(1), dim=1) for each in samples if each is not None]
    norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    factors = (clipping_norm / (norms + SMALL)).clamp(max=1.0)
    if not torch.isfinite(norms).all():
        finite = torch.isfinite(norms)
        factors, samples = factors[finite], [None if each is None else each[finite] for each in samples]
    for p, each in zip(trained, samples, strict=True):
        p.grad = torch.zeros_like(p) if each is None else torch.einsum("i,i...", factors, each)


@contextmanager
def _certain(model: nn.Module) -> Iterator[None]:
    """Without dropout, so that two passes can be compared, and without leaving a trace in the random numbers."""
    settings: list[tuple[Any, str, float]] = []
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            settings.append((module, "p", module.p))
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            settings.append((module, "dropout", module.dropout))
    for module, name, _ in settings:
        setattr(module, name, 0.0)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, name, value in settings:
            setattr(module, name, value)
        for p in model.parameters():
            p.grad = None
