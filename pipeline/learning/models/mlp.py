"""The model: built from its configuration alone, so that every client and the endpoint build the same one.

Training needs PyTorch. Scoring is a few matrix products and is done in numpy, at the client's evaluation and at the
endpoint alike: one function, so that what was evaluated is what answers, and no replica pays for importing PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.kinds import Frozen

if TYPE_CHECKING:
    import torch

Weights = npt.NDArray[np.float32]
"""All parameters as one vector: for each layer its matrix [out, in], row by row, then its bias [out]."""


class ModelConfig(Frozen):
    """A multilayer perceptron over the preprocessed features."""

    hidden: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field((64, 32), description="Widths of hidden layers.")
    activation: Literal["relu", "tanh"] = Field("relu", description="Activation of the hidden layers.")
    personal_layers: int = Field(
        0, ge=0, description="Last layers each client keeps as its own; what is served has the clients' mean of them."
    )

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.personal_layers > len(self.hidden):
            raise ValueError(f"personal_layers {self.personal_layers} leaves no layer to share")
        return self


def _relu(values: Weights) -> Weights:
    return np.maximum(values, 0)


_ACTIVATIONS: dict[str, Callable[[Weights], Weights]] = {"relu": _relu, "tanh": np.tanh}


def shapes(config: ModelConfig, width: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer; the last has one output, the logit of the positive class."""
    widths = [width, *config.hidden, 1]
    return list(itertools.pairwise(widths))


def parameter_count(config: ModelConfig, width: int) -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in shapes(config, width))


def shared_count(config: ModelConfig, width: int) -> int:
    """Parameters of the layers that all clients share; they come first."""
    layers = shapes(config, width)
    return sum(inputs * outputs + outputs for inputs, outputs in layers[: len(layers) - config.personal_layers])


def initial_weights(config: ModelConfig, width: int, seed: int) -> Weights:
    """Uniform in +-1/sqrt(inputs), PyTorch's default for Linear, from numpy's seeded generator: equal on every
    machine."""
    generator = np.random.default_rng(seed)
    parts = []
    for inputs, outputs in shapes(config, width):
        bound = 1 / np.sqrt(inputs)
        parts.append(generator.uniform(-bound, bound, inputs * outputs + outputs))
    return np.concatenate(parts).astype(np.float32)


def build(config: ModelConfig, width: int) -> torch.nn.Sequential:
    """The untrained module: float32 [rows, width] to logits [rows, 1]."""
    import torch

    activations = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
    layers: list[torch.nn.Module] = []
    for inputs, outputs in shapes(config, width):
        layers += [torch.nn.Linear(inputs, outputs), activations[config.activation]()]
    return torch.nn.Sequential(*layers[:-1])


def scores(config: ModelConfig, width: int, weights: Weights, features: Weights) -> npt.NDArray[np.float64]:
    """Probability of the positive class for each row of `features` [rows, width]; equal to the module's sigmoid."""
    layers = list(by_layer(config, width, weights))
    values = features
    for matrix, bias in layers[:-1]:
        values = _ACTIVATIONS[config.activation](values @ matrix.T + bias)
    matrix, bias = layers[-1]
    logits = (values @ matrix.T + bias)[:, 0].astype(np.float64)
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500)))


def by_layer(config: ModelConfig, width: int, weights: Weights) -> Iterator[tuple[Weights, Weights]]:
    """(matrix [out, in], bias [out]) of each layer of a flat vector."""
    at = 0
    for inputs, outputs in shapes(config, width):
        end = at + inputs * outputs
        yield weights[at:end].reshape(outputs, inputs), weights[end : end + outputs]
        at = end + outputs


def as_tensors(config: ModelConfig, width: int, weights: Weights) -> dict[str, Weights]:
    """A flat vector as the named tensors of `build`'s state dict."""
    tensors: dict[str, Weights] = {}
    for layer, (matrix, bias) in enumerate(by_layer(config, width, weights)):
        tensors[f"{2 * layer}.weight"], tensors[f"{2 * layer}.bias"] = np.ascontiguousarray(matrix), bias.copy()
    return tensors


def from_tensors(config: ModelConfig, width: int, tensors: Mapping[str, Weights]) -> Weights:
    """The reverse of `as_tensors`. Raises ValueError when a tensor is missing, superfluous or of another shape."""
    parts = []
    for layer, (inputs, outputs) in enumerate(shapes(config, width)):
        for name, shape in ((f"{2 * layer}.weight", (outputs, inputs)), (f"{2 * layer}.bias", (outputs,))):
            if name not in tensors or tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise ValueError(f"tensor {name} is missing or not float32 {shape}")
            parts.append(tensors[name].reshape(-1))
    if len(parts) != len(tensors):
        raise ValueError("there are more tensors than the model has")
    return np.concatenate(parts)
