"""How a number between its bounds becomes a number between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from privacy.noise import Floats

Scale = Literal["linear", "log", "quantile"]
LEVELS = 20
"""Parts that fitted edges divide the records into."""


def scaling(low: float, high: float, scale: Scale, edges: Sequence[float]) -> Callable[[Floats], Floats]:
    """What makes values between low and high, one or many, numbers in [0, 1].

    linear: evenly. log: by the logarithm of one plus the distance from `low`, for amounts. quantile: by the share of
    the records below, for any shape: edges[i] stands for i / (len(edges) - 1), equal edges for their middle.
    """
    if scale == "log":
        return lambda values: np.log1p(values - low) / np.log1p(high - low)
    if scale == "quantile":
        known, first, count = np.unique(np.asarray(edges, dtype=np.float64), return_index=True, return_counts=True)
        levels = (first + (count - 1) / 2) / (len(edges) - 1)
        return lambda values: np.asarray(np.interp(values, known, levels))
    return lambda values: (values - low) / (high - low)


def unscaling(low: float, high: float, scale: Scale, edges: Sequence[float]) -> Callable[[Floats], Floats]:
    """The reverse of `scaling`; where edges are equal or none yet, a value that lies between."""
    if scale == "log":
        return lambda shares: low + np.expm1(shares * np.log1p(high - low))
    if scale == "quantile" and edges:
        levels = np.linspace(0.0, 1.0, len(edges))
        return lambda shares: np.asarray(np.interp(shares, levels, np.asarray(edges, dtype=np.float64)))
    return lambda shares: low + shares * (high - low)


def grid(low: float, high: float, bins: int, scale: Scale) -> Floats:
    """Edges [bins + 1] of the bins in which a statistic counts: even; or, where values are expected to crowd, half of
    them even and half growing with the distance from `low`."""
    span = high - low
    if scale == "linear":
        return np.linspace(low, high, bins + 1)
    even = np.linspace(0.0, 1.0, bins // 2 + 1)
    growing = np.geomspace(1e-4, 1.0, bins - bins // 2 + 1)[:-1]
    made = np.unique(np.concatenate([even, growing]).round(12))  # two that differ by rounding are one
    while len(made) < bins + 1:  # two of them were one: halve the widest
        widest = int(np.argmax(np.diff(made)))
        made = np.insert(made, widest + 1, (made[widest] + made[widest + 1]) / 2)
    return np.asarray(low + span * made)


def quantiles(edges: Floats, counts: Floats, levels: Floats) -> Floats:
    """Values below which those shares of the records lie. edges: [bins + 1]; counts: [bins], noisy ones too."""
    reached = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(counts)]))
    if reached[-1] <= 0:  # nothing but noise
        return np.asarray(np.interp(levels, [0.0, 1.0], [edges[0], edges[-1]]))
    wanted = levels * reached[-1]
    after = np.maximum(np.searchsorted(reached, wanted, side="left"), 1)
    inside = reached[after] - reached[after - 1]
    part = np.clip((wanted - reached[after - 1]) / np.where(inside > 0, inside, 1.0), 0.0, 1.0)
    return np.asarray(edges[after - 1] + part * (edges[after] - edges[after - 1]))
