"""How the opened mean update becomes a step of the global model: at every client alike, so that they stay equal.

Reddi et al. 2021, "Adaptive Federated Optimization", without its coordinator, which cannot read the mean.
"""

from __future__ import annotations

import numpy as np

from pipeline.language.settings.training import Adam, Average, Server
from pipeline.learning.models.net import Weights
from privacy.noise import Floats

Moments = tuple[Weights, ...]
"""Vectors that go on from step to step; none before the first."""


def stepped(server: Server, mean: Floats, moments: Moments) -> tuple[Floats, Moments]:
    """What is added to the model, and the moments after it. mean: float64."""
    if isinstance(server, Average):
        return mean, ()
    if isinstance(server, Adam):
        first, second = moments or (np.zeros_like(mean), np.full_like(mean, server.tau**2))
        first = (server.beta1 * first + (1 - server.beta1) * mean).astype(np.float32)
        second = (server.beta2 * second + (1 - server.beta2) * mean**2).astype(np.float32)
        return server.learning_rate * first / (np.sqrt(second.astype(np.float64)) + server.tau), (first, second)
    (velocity,) = moments or (np.zeros_like(mean),)
    velocity = (server.beta * velocity + mean).astype(np.float32)
    return server.learning_rate * velocity.astype(np.float64), (velocity,)
