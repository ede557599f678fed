"""How a binary model scores, by class: counts [2, bins], from which every metric of it follows."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.learning.columns.column import Matrix
from pipeline.learning.queries.query import Measured, Query, Rows, share_error
from privacy.noise import Floats, Integers

SPREAD = 3.0
"""Bins are even in the sigmoid of a third of the logit: many scores lie near 0 and 1, and ties in a bin cost ROC-AUC
(measured on one default job: 0.8134 with 40 even bins of the score itself, 0.8207 exactly). One half stays an edge."""


class Scores(Query):
    """For the negative and the positive class, how many records score in each bin of [0, 1]. One record, one count."""

    kind: Literal["scores"] = "scores"
    bins: int = Field(ge=4, le=1000, multiple_of=2, description="Bins of the score.")

    @property
    def size(self) -> int:
        return 2 * self.bins

    @property
    def norm(self) -> float:
        return 1.0

    def count(self, rows: Rows, outputs: Floats) -> Integers:
        known = np.isfinite(rows.targets)
        return score_counts(outputs[known, 0], rows.targets[known], self.bins).reshape(-1)

    def read(self, total: Integers, noise: float) -> dict[str, Measured]:
        negative, positive = total.reshape(2, self.bins)
        found = metrics(negative, positive)
        ones, rows = max(float(positive.sum()), 1.0), max(float(total.sum()), 1.0)
        half = self.bins // 2
        told = max(float(positive[half:].sum() + negative[half:].sum()), 1.0)
        shares = {
            "accuracy": (rows, self.bins),
            "positive_share": (rows, self.bins),
            "precision": (told, half),
            "recall": (ones, half),
            "pr_auc": (ones, half),
        }
        errors = {name: share_error(found[name], count, cells, cells, noise) for name, (count, cells) in shares.items()}
        errors["roc_auc"] = roc_auc_error(negative, positive, noise)
        return {name: Measured(value, errors[name]) for name, value in found.items()}

    def curves(self, total: Integers) -> dict[str, list[Any]]:
        """At each threshold between bins: who is told positive."""
        negative, positive = np.maximum(total.reshape(2, self.bins), 0).astype(np.float64)
        edges = np.arange(self.bins) / self.bins
        odds = edges / np.maximum(1 - edges, 1e-12)
        return {"threshold": (odds**SPREAD / (1 + odds**SPREAD)).tolist(), **rates(negative, positive)}


def rates(negative: Floats, positive: Floats) -> dict[str, list[float]]:
    """Of counts [bins] by score, ascending: what is true of those at or above each bin."""
    false, true = np.cumsum(negative[::-1])[::-1], np.cumsum(positive[::-1])[::-1]
    return {
        "false_positive_rate": (false / max(float(false[0]), 1.0)).tolist(),
        "true_positive_rate": (true / max(float(true[0]), 1.0)).tolist(),
        "precision": (true / np.maximum(true + false, 1.0)).tolist(),
    }


def sigmoid(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Probability, float64."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -500, 500))))


def score_counts(scores: Floats, labels: Matrix, bins: int) -> Integers:
    """Exact counts [2, bins] of the scores of each class."""
    # A score that is not a number must not be told from others: an error here would say that such a record exists.
    bounded = np.clip(np.nan_to_num(scores, nan=0.5), 1e-12, 1 - 1e-12)
    spread = 1 / (1 + ((1 - bounded) / bounded) ** (1 / SPREAD))
    at = np.minimum((spread * bins).astype(np.int64), bins - 1)
    counts = np.zeros((2, bins), dtype=np.int64)
    np.add.at(counts, (labels.astype(np.int64), at), 1)
    return counts


def metrics(negative: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, float]:
    """negative, positive: counts [bins] by score in [0, 1], ascending; they may be noisy, so slightly negative too.

    Accuracy, precision and recall are at threshold 0.5, exact when it is a bin edge. ROC-AUC counts ties inside a bin
    as half (Mann-Whitney); PR-AUC is the step sum of precision over recall (average precision).
    """
    zeros, ones = np.asarray(negative, dtype=np.float64), np.asarray(positive, dtype=np.float64)
    total_0, total_1 = max(zeros.sum(), 1.0), max(ones.sum(), 1.0)
    half = len(zeros) // 2
    hits, false_alarms = ones[half:].sum(), zeros[half:].sum()
    correct = hits + zeros[:half].sum()
    return {
        "roc_auc": _bounded(_kernel(zeros) @ ones / (total_0 * total_1)),
        "pr_auc": _bounded(_average_precision(zeros, ones)),
        "accuracy": _bounded(correct / (total_0 + total_1)),
        "precision": _bounded(hits / max(hits + false_alarms, 1.0)),
        "recall": _bounded(hits / total_1),
        "positive_share": _bounded(total_1 / (total_0 + total_1)),
    }


def roc_auc_error(negative: npt.ArrayLike, positive: npt.ArrayLike, noise: float) -> float:
    """One standard error of `roc_auc`, to first order: sampling of the rows, and noise of deviation `noise` a count."""
    zeros, ones = np.asarray(negative, dtype=np.float64), np.asarray(positive, dtype=np.float64)
    total_0, total_1 = max(zeros.sum(), 1.0), max(ones.sum(), 1.0)
    auc = _kernel(zeros) @ ones / (total_0 * total_1)
    by_one = (_kernel(zeros) / total_0 - auc) / total_1
    by_zero = (_kernel(ones[::-1])[::-1] / total_1 - auc) / total_0
    variance = (np.maximum(ones, 0) + noise**2) @ by_one**2 + (np.maximum(zeros, 0) + noise**2) @ by_zero**2
    return math.sqrt(variance)


def _kernel(counts: Floats) -> Floats:
    """For each bin, how many of `counts` score below it, ties half."""
    return np.asarray(np.cumsum(counts) - counts / 2)


def _average_precision(zeros: Floats, ones: Floats) -> float:
    above_1, above_0 = np.cumsum(ones[::-1]), np.cumsum(zeros[::-1])
    precision = np.clip(above_1 / np.maximum(above_1 + above_0, 1.0), 0.0, 1.0)
    recall = np.clip(above_1 / max(ones.sum(), 1.0), 0.0, 1.0)
    return float(np.sum(np.diff(np.maximum.accumulate(recall), prepend=0.0) * precision))


def _bounded(value: float) -> float:
    return float(min(max(value, 0.0), 1.0))
