"""The parameters of a module that are trained, as one vector: what travels, is clipped, noised and summed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def trained_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Those that require a gradient, each once."""
    return [p for p in model.parameters() if p.requires_grad]


def flat(model: torch.nn.Module) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All trained parameters as one float32 vector, in the order of `model.parameters()`."""
    with torch.no_grad():
        trained = trained_parameters(model)
        return torch.cat([p.reshape(-1) for p in trained]).numpy().copy() if trained else np.zeros(0, np.float32)


def load_flat(model: torch.nn.Module, weights: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """The reverse of `flat`."""
    with torch.no_grad():
        at = 0
        for p in trained_parameters(model):
            p.copy_(torch.from_numpy(weights[at : at + p.numel()].reshape(tuple(p.shape)).copy()))
            at += p.numel()
