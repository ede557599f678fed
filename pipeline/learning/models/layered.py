"""Fully connected layers, one after the other.

Training needs PyTorch. Scoring is a few matrix products and is done in numpy, at the client's evaluation and at the
endpoint alike: one function, so that what was evaluated is what answers, and no replica pays for importing PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from pipeline.learning.models.net import WEIGHTS, Net, Weights

if TYPE_CHECKING:
    import torch

Activation = Literal["relu", "tanh"]


def _relu(values: Weights) -> Weights:
    return np.maximum(values, 0)


_ACTIVATIONS: dict[Activation, Callable[[Weights], Weights]] = {"relu": _relu, "tanh": np.tanh}


@dataclass(frozen=True)
class Layered(Net):
    """widths: of the features, of every hidden layer, of the output. personal: last layers each client keeps."""

    widths: tuple[int, ...]
    activation: Activation = "relu"
    personal: int = 0
    seed: int = 0

    checked: ClassVar[bool] = True

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each."""
        return list(itertools.pairwise(self.widths))

    @property
    def parameters(self) -> int:
        return sum(inputs * outputs + outputs for inputs, outputs in self.layers)

    @property
    def shared(self) -> int:
        layers = self.layers
        return sum(inputs * outputs + outputs for inputs, outputs in layers[: len(layers) - self.personal])

    def examples(self, rows: int) -> Weights:
        return np.random.default_rng(7).uniform(0, 1, (rows, self.widths[0])).astype(np.float32)

    def initial(self) -> Weights:
        """Uniform in +-1/sqrt(inputs), PyTorch's default for Linear, from numpy's seeded generator."""
        generator = np.random.default_rng(self.seed)
        parts = []
        for inputs, outputs in self.layers:
            bound = 1 / np.sqrt(inputs)
            parts.append(generator.uniform(-bound, bound, inputs * outputs + outputs))
        return np.concatenate(parts).astype(np.float32)

    def module(self, weights: Weights) -> torch.nn.Module:
        import torch

        from privacy.parameters import load_flat

        activations = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
        layers: list[torch.nn.Module] = []
        for inputs, outputs in self.layers:
            layers += [torch.nn.Linear(inputs, outputs), activations[self.activation]()]
        module = torch.nn.Sequential(*layers[:-1])
        load_flat(module, weights)
        return module

    def outputs(self, weights: Weights, features: Weights) -> Weights:
        layers = list(self.by_layer(weights))
        values = features
        for matrix, bias in layers[:-1]:
            values = _ACTIVATIONS[self.activation](values @ matrix.T + bias)
        matrix, bias = layers[-1]
        return values @ matrix.T + bias

    def by_layer(self, weights: Weights) -> Iterator[tuple[Weights, Weights]]:
        """(matrix [out, in], bias [out]) of each layer of a flat vector."""
        at = 0
        for inputs, outputs in self.layers:
            end = at + inputs * outputs
            yield weights[at:end].reshape(outputs, inputs), weights[end : end + outputs]
            at = end + outputs

    def files(self, weights: Weights) -> Mapping[str, bytes]:
        from safetensors.numpy import save

        return {WEIGHTS: save(self.as_tensors(weights))}

    def as_tensors(self, weights: Weights) -> dict[str, Weights]:
        """A flat vector as the named tensors of the module's state dict."""
        tensors: dict[str, Weights] = {}
        for layer, (matrix, bias) in enumerate(self.by_layer(weights)):
            tensors[f"{2 * layer}.weight"], tensors[f"{2 * layer}.bias"] = np.ascontiguousarray(matrix), bias.copy()
        return tensors

    def from_tensors(self, tensors: Mapping[str, Weights]) -> Weights:
        """The reverse of `as_tensors`. Raises ValueError when a tensor is missing, superfluous or of another shape."""
        parts = []
        for layer, (inputs, outputs) in enumerate(self.layers):
            for name, shape in ((f"{2 * layer}.weight", (outputs, inputs)), (f"{2 * layer}.bias", (outputs,))):
                if name not in tensors or tensors[name].shape != shape or tensors[name].dtype != np.float32:
                    raise ValueError(f"tensor {name} is missing or not float32 {shape}")
                parts.append(tensors[name].reshape(-1))
        if len(parts) != len(tensors):
            raise ValueError("there are more tensors than the model has")
        return np.concatenate(parts)
