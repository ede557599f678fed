"""Clipped sums of per-sample gradients from one backward pass, without per-sample gradient tensors.

A layer's per-sample gradient is a product of its input and the gradient of its output. Hooks keep both; norms
follow from inner products of them, and the clipped sum is one product in which each sample's output gradient was
scaled by its clipping factor. It takes the place of the ordinary weight gradient, so nothing is computed twice
(ghost norms: Goodfellow 2015, Lee and Kifer 2021; book-keeping: Bu et al. 2023).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch import nn
from torch.nn.grad import conv2d_weight

Layer = nn.Linear | nn.Conv2d | nn.Embedding | nn.LayerNorm | nn.GroupNorm

SCALE = 2.0**30
"""Gradients are computed so many times larger, exactly: the square of 1e-23 is zero in float32, and times the square of
an input of 1e19 that would hide a norm of 1e-4 from clipping. Norms above 1e10 overflow: such a record is dropped.
"""


_PAIRS = 16_000_000
"""Pairs of words that are compared at a time."""


class LayerReused(Exception):
    """A layer is used twice in one pass: its norm is not that of one product."""


class Bookkeeper:
    """Gradients of a model whose every trained parameter belongs to a Linear layer, an ungrouped 2-d convolution, an
    embedding, or a normalisation within a record.

    It watches the model's layers until it is closed.
    """

    def __init__(self, model: nn.Module, clipping_norm: float) -> None:
        self._model = model
        self._clipping_norm = clipping_norm
        self._parameters = list(model.parameters())  # walking the modules each step costs a tenth of it
        self._trained = [p for p in self._parameters if p.requires_grad]
        self._layers = [layer for layer in model.modules() if isinstance(layer, Layer) and _trained(layer)]
        self._inputs: dict[Layer, torch.Tensor] = {}
        self._outputs: dict[Layer, torch.Tensor] = {}
        self._watching = False
        self._hooks = [layer.register_forward_hook(self._keep) for layer in self._layers]

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    @staticmethod
    def supports(model: nn.Module) -> bool:
        """Whether each trained layer is of a kind whose norms are known here, trained whole and shares no parameter."""
        layers = [layer for layer in model.modules() if _trained(layer)]
        own = [id(p) for layer in layers for p in layer.parameters(recurse=False)]
        return len(own) == len(set(own)) and all(
            type(layer) in get_args(Layer)
            and all(p.requires_grad for p in layer.parameters(recurse=False))
            and _plain(layer)
            for layer in layers
        )

    def clipped_sum(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        losses: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> None:
        """Set every parameter's `grad` to the sum over the batch of gradients clipped to `clipping_norm` each.

        losses: of outputs and targets, one a record. A record whose gradient is not finite contributes nothing. Raises
        LayerReused.
        """
        self._inputs.clear()
        self._outputs.clear()
        for p in self._parameters:
            p.grad = None
        with self._frozen():
            each = losses(self._model(features), targets)
            layers = list(self._outputs)
            gradients = torch.autograd.grad(each, list(self._outputs.values()), torch.full_like(each, SCALE))
        with torch.no_grad():
            parts = [
                _squared_norms(layer, self._inputs[layer], gradient)
                for layer, gradient in zip(layers, gradients, strict=True)
            ]
            squares = functools.reduce(torch.add, parts)
            norms = squares.sqrt().div_(SCALE)
            factors = (self._clipping_norm / (norms + 1e-6)).clamp(max=1.0) / SCALE  # the small number is Opacus's
            good = None if math.isfinite(squares.sum()) else torch.isfinite(squares).nonzero().squeeze(1)
            for layer, gradient in zip(layers, gradients, strict=True):
                if good is None:
                    _set_gradients(layer, self._inputs[layer], gradient, factors)
                else:
                    _set_gradients(layer, self._inputs[layer][good], gradient[good], factors[good])
            for p in self._trained:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
        self._inputs.clear()
        self._outputs.clear()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """One pass. Parameters ask for no gradient meanwhile: it would be the one that is replaced."""
        for p in self._trained:
            p.requires_grad_(False)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            for p in self._trained:
                p.requires_grad_(True)

    def _keep(self, layer: Layer, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if not self._watching:
            return
        if layer in self._outputs:
            raise LayerReused
        if not output.requires_grad:
            output.requires_grad_(True)
        self._inputs[layer], self._outputs[layer] = inputs[0].detach(), output


def _trained(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters(recurse=False))


def _plain(layer: nn.Module) -> bool:
    """Whether it has none of the settings under which its gradient is another one."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return True


def _squared_norms(layer: Layer, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Squared norm [batch] of each record's gradient of this layer's parameters."""
    if isinstance(layer, nn.Embedding):
        return _embedding_norms(layer, inputs, gradient)
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
        parts = [each.flatten(1).square().sum(1) for each in _norm_gradients(layer, inputs, gradient)]
        return functools.reduce(torch.add, parts)
    if inputs.dim() == 2:
        of_inputs: torch.Tensor = torch.linalg.vector_norm(inputs, dim=1).square_()
        of_gradient: torch.Tensor = torch.linalg.vector_norm(gradient, dim=1).square_()
        return of_gradient.mul_(of_inputs.add_(1) if layer.bias is not None else of_inputs)
    a, g = _as_positions(layer, inputs, gradient)
    positions, width, height = a.shape[1], a.shape[2], g.shape[2]
    if positions * (width + height) < width * height:
        squares = ((a @ a.transpose(1, 2)) * (g @ g.transpose(1, 2))).sum((1, 2))
    else:
        squares = (g.transpose(1, 2) @ a).square().sum((1, 2))
    return squares + g.sum(1).square().sum(1) if layer.bias is not None else squares


def _as_positions(layer: Layer, inputs: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [batch, positions, width] and gradients [batch, positions, height]: their product is the weight's."""
    batch = len(inputs)
    if isinstance(layer, nn.Linear):
        return inputs.reshape(batch, -1, layer.in_features), gradient.reshape(batch, -1, layer.out_features)
    patches = nn.functional.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2), gradient.flatten(2).transpose(1, 2)


def _embedding_norms(layer: nn.Embedding, ids: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A word that comes twice in a record has one gradient, the sum of both."""
    ids, gradient = ids.reshape(len(ids), -1), gradient.reshape(len(ids), -1, layer.embedding_dim)
    if layer.padding_idx is not None:
        gradient = gradient * (ids != layer.padding_idx).unsqueeze(2)
    at_once = max(1, _PAIRS // max(1, ids.shape[1] ** 2))
    parts = []
    for at in range(0, len(ids), at_once):
        words, g = ids[at : at + at_once], gradient[at : at + at_once]
        parts.append(((g @ g.transpose(1, 2)) * (words.unsqueeze(1) == words.unsqueeze(2))).sum((1, 2)))
    # The same sum as a square in exact numbers; rounded it may be a little below zero.
    return torch.cat(parts).clamp(min=0.0)


def _norm_gradients(
    layer: nn.LayerNorm | nn.GroupNorm, inputs: torch.Tensor, gradient: torch.Tensor
) -> list[torch.Tensor]:
    """Each record's gradients [batch, ...] of weight and, where there is one, bias: they are small."""
    if isinstance(layer, nn.LayerNorm):
        normal = nn.functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        summed = list(range(1, inputs.dim() - len(layer.normalized_shape)))
    else:
        normal = nn.functional.group_norm(inputs, layer.num_groups, eps=layer.eps)
        summed = list(range(2, inputs.dim()))
    both = [normal * gradient, gradient] if layer.bias is not None else [normal * gradient]
    return [each.sum(summed) if summed else each for each in both]


def _set_gradients(layer: Layer, inputs: torch.Tensor, gradient: torch.Tensor, factors: torch.Tensor) -> None:
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
        for p, each in zip((layer.weight, layer.bias), _norm_gradients(layer, inputs, gradient), strict=False):
            p.grad = torch.einsum("i,i...", factors, each)
        return
    if isinstance(layer, nn.Embedding):
        scaled = gradient.reshape(len(inputs), -1, layer.embedding_dim) * factors.view(-1, 1, 1)
        ids = inputs.reshape(len(inputs), -1)
        if layer.padding_idx is not None:
            scaled = scaled * (ids != layer.padding_idx).unsqueeze(2)
        summed = torch.zeros_like(layer.weight)
        layer.weight.grad = summed.index_add_(0, ids.reshape(-1), scaled.reshape(-1, layer.embedding_dim))
        return
    if isinstance(layer, nn.Linear) and inputs.dim() == 2:
        if layer.out_features < layer.in_features:
            layer.weight.grad = (gradient * factors.unsqueeze(1)).T @ inputs
        else:
            layer.weight.grad = gradient.T @ (inputs * factors.unsqueeze(1))
        if layer.bias is not None:
            layer.bias.grad = factors @ gradient
        return
    scaled = gradient * factors.view(-1, *[1] * (gradient.dim() - 1))
    if isinstance(layer, nn.Linear):
        rows = scaled.reshape(-1, layer.out_features)
        layer.weight.grad = rows.T @ inputs.reshape(-1, layer.in_features)
        if layer.bias is not None:
            layer.bias.grad = rows.sum(0)
        return
    shape, geometry = layer.weight.shape, (layer.stride, layer.padding, layer.dilation)
    layer.weight.grad = conv2d_weight(inputs, shape, scaled, *geometry)  # type: ignore[no-untyped-call]
    if layer.bias is not None:
        layer.bias.grad = scaled.sum((0, 2, 3))
