"""The model: built from its configuration alone, so that every client and the endpoint build the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.config import ModelConfig

if TYPE_CHECKING:
    import torch

Weights = npt.NDArray[np.float32]
"""All parameters as one vector: for each layer its matrix [out, in], row by row, then its bias [out]."""


def shapes(config: ModelConfig, width: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer; the last has one output, the logit of the positive class."""
    widths = [width, *config.hidden, 1]
    return list(zip(widths, widths[1:], strict=False))


def parameter_count(config: ModelConfig, width: int) -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in shapes(config, width))


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
