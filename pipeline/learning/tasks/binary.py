"""Metrics of a binary classifier from its score histogram alone, which is all that clients release."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.learning.columns.column import Matrix
from privacy.noise import Floats, Integers

SPREAD = 3.0
"""Bins are even in the sigmoid of a third of the logit: many scores lie near 0 and 1, and ties in a bin cost ROC-AUC
(measured on one default job: 0.8134 with 40 even bins of the score itself, 0.8207 exactly). One half stays an edge."""


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
