"""How a model of several classes answers: who is taken for whom, how each class ranks, and how sure it is."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.learning.queries.query import Measured, Query, Rows, share_error
from pipeline.learning.queries.scores import Scores, metrics, roc_auc_error, score_counts
from privacy.noise import Floats, Integers

UNIT = 1024
"""What one record adds to a count: a sum of its loss has so many steps."""
LARGEST_LOSS = 10.0
"""Loss of one record in nats, at most: a probability below e^-10 counts as that."""


class Confusion(Query):
    """Confusion matrix [classes, classes] by true and told class; for each class counts [2, bins] of its probability,
    of the others' records and of its own; and the sum of the losses. All of it in units of `UNIT`: one record adds one
    to a cell of the matrix, to one bin of each class, and its loss over `LARGEST_LOSS`."""

    kind: Literal["confusion"] = "confusion"
    classes: tuple[str, ...] = Field(min_length=2, max_length=256, description="Names of the classes.")
    bins: int = Field(ge=4, le=1000, multiple_of=2, description="Bins of each class's probability.")

    @property
    def size(self) -> int:
        count = len(self.classes)
        return count * count + count * 2 * self.bins + 1

    @property
    def norm(self) -> float:
        return UNIT * math.sqrt(len(self.classes) + 2)

    def count(self, rows: Rows, outputs: Floats) -> Integers:
        known = np.isfinite(rows.targets)
        classes, labels = len(self.classes), rows.targets[known].astype(np.int64)
        chances = np.nan_to_num(outputs[known], nan=0.0)
        matrix = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(matrix, (labels, chances.argmax(axis=1)), UNIT)
        ranks = [UNIT * score_counts(chances[:, k], labels == k, self.bins).reshape(-1) for k in range(classes)]
        own = np.clip(chances[np.arange(len(labels)), labels], math.exp(-LARGEST_LOSS), 1.0)
        losses = np.rint(-np.log(own) * (UNIT / LARGEST_LOSS)).astype(np.int64).sum()
        return np.concatenate([matrix.reshape(-1), *ranks, np.array([losses], dtype=np.int64)])

    def read(self, total: Integers, noise: float) -> dict[str, Measured]:
        """accuracy, log_loss, macro averages, and each metric of each class as `metric[class]`. A cell of the matrix is
        `confusion[true, told]`, a count."""
        classes, noise = len(self.classes), noise / UNIT
        counts = total / UNIT
        matrix = counts[: classes * classes].reshape(classes, classes)
        found = {
            f"confusion[{true}, {told}]": Measured(float(matrix[i, j]), noise)
            for i, true in enumerate(self.classes)
            for j, told in enumerate(self.classes)
        }
        # Every class's bins hold every record, so together they tell how many there are with the least noise.
        ranked = counts[classes * classes : -1].reshape(classes, 2, self.bins)
        rows, cells = max(float(ranked.sum()) / classes, 1.0), 2 * self.bins / classes
        accuracy = _share(float(np.trace(matrix)), rows)
        sampled = accuracy * (1 - accuracy) / rows
        error = math.sqrt(sampled + noise**2 * (classes + cells * accuracy**2) / rows**2)
        found["accuracy"] = Measured(accuracy, error)
        found["log_loss"] = self._log_loss(float(counts[-1]), rows, noise)
        by_class: dict[str, list[Measured]] = {}
        for k, name in enumerate(self.classes):
            for metric, measured in self._of_class(matrix, k, ranked[k], noise).items():
                by_class.setdefault(metric, []).append(measured)
                found[f"{metric}[{name}]"] = measured
        for metric, each in by_class.items():
            errors = math.sqrt(sum(measured.error**2 for measured in each)) / classes
            found[f"macro_{metric}"] = Measured(sum(measured.value for measured in each) / classes, errors)
        return found

    def curves(self, total: Integers) -> dict[str, list[Any]]:
        """For each class, against all others, at each threshold of its probability."""
        made: dict[str, list[Any]] = {}
        against = Scores(bins=self.bins)
        for k, name in enumerate(self.classes):
            at = len(self.classes) ** 2 + k * 2 * self.bins
            found = {"class": [name] * self.bins, **against.curves(total[at : at + 2 * self.bins] // UNIT)}
            for column, values in found.items():
                made.setdefault(column, []).extend(values)
        return made

    def _of_class(self, matrix: Floats, k: int, ranks: Floats, noise: float) -> dict[str, Measured]:
        hits, told, own = float(matrix[k, k]), float(matrix[:, k].sum()), float(matrix[k].sum())
        precision, recall = _share(hits, told), _share(hits, own)
        others = len(matrix) - 1
        errors = share_error(precision, told, 1, others, noise), share_error(recall, own, 1, others, noise)
        both = max(precision + recall, 1e-12)
        f1 = 2 * precision * recall / both
        f1_error = 2 * math.hypot(recall**2 * errors[0], precision**2 * errors[1]) / both**2
        return {
            "precision": Measured(precision, errors[0]),
            "recall": Measured(recall, errors[1]),
            "f1": Measured(f1, f1_error),
            "roc_auc": Measured(metrics(ranks[0], ranks[1])["roc_auc"], roc_auc_error(ranks[0], ranks[1], noise)),
        }

    def _log_loss(self, total: float, rows: float, noise: float) -> Measured:
        mean = min(max(total * LARGEST_LOSS / rows, 0.0), LARGEST_LOSS)
        counted = 2 * self.bins / len(self.classes) * (mean / LARGEST_LOSS) ** 2
        error = LARGEST_LOSS * noise * math.sqrt(1 + counted) / rows
        # The spread of the losses is not asked for: of losses with a mean below their largest it is at most this.
        sampled = math.sqrt(mean * (LARGEST_LOSS - mean) / rows)
        return Measured(mean, math.sqrt(error**2 + sampled**2 + (LARGEST_LOSS / UNIT / 2) ** 2))


def softmax(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Probabilities [rows, classes] that add up to one."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _share(hits: float, of: float) -> float:
    return min(max(hits / max(of, 1.0), 0.0), 1.0)
