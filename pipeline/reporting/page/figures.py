"""Which plots say how good a model is: of the noisy counts that the run has paid for, with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipeline.learning.queries.confusion import UNIT, Confusion
from pipeline.learning.queries.query import share_error
from pipeline.learning.queries.residuals import Residuals
from pipeline.learning.queries.scores import SPREAD, Scores, metrics, rates
from pipeline.reporting.page.chart import Grid, Plot, Series, drawn, gridded
from pipeline.stages.values import EvaluationReport
from privacy.noise import Floats

PLACES = 10
"""Points of a calibration plot, at most: each of as many records as the others."""
CLASSES = 8
"""Curves in one plot, at most."""
SURE = 1.96
"""Standard errors of a 95 % interval."""


def figures(report: EvaluationReport) -> list[Markup]:
    """Of a question that is known here; of another none."""
    counts, question = np.array(report.counts, dtype=np.float64), report.question
    if isinstance(question, Scores):
        negative, positive = counts.reshape(2, question.bins)
        return [
            _roc([("this version", negative, positive)], report.noise),
            _precision(negative, positive, report.noise),
            _calibration(negative, positive, report.noise),
        ]
    if isinstance(question, Confusion):
        return _of_classes(question, counts / UNIT, report.noise / UNIT)
    if isinstance(question, Residuals):
        return _of_residuals(question, report)
    return []


def compared(named: Sequence[tuple[str, EvaluationReport]]) -> list[Markup]:
    """One plot of several evaluations of one kind of question."""
    curves = []
    for name, report in named:
        if isinstance(report.question, Scores):
            negative, positive = np.array(report.counts, dtype=np.float64).reshape(2, report.question.bins)
            curves.append((name, negative, positive))
    return [_roc(curves[:CLASSES], 0.0)] if len(curves) > 1 else []


def _roc(curves: Sequence[tuple[str, Floats, Floats]], noise: float) -> Markup:
    made, told = [], []
    for name, negative, positive in curves:
        zeros, ones = np.maximum(negative, 0), np.maximum(positive, 0)
        found, rows, bins = rates(zeros, ones), float(ones.sum()), len(ones)
        x, y = [1.0, *found["false_positive_rate"], 0.0], [1.0, *found["true_positive_rate"], 0.0]
        off = [0.0, *(SURE * share_error(t, rows, bins // 2, bins // 2, noise) for t in y[1:-1]), 0.0]
        low = [max(0.0, t - e) for t, e in zip(y, off, strict=True)] if noise or len(curves) == 1 else []
        high = [min(1.0, t + e) for t, e in zip(y, off, strict=True)] if low else []
        made.append(Series(name, x, y, low, high))
        told.append(f"{name}: area {metrics(negative, positive)['roc_auc']:.3f}")
    plot = Plot(
        title="ROC curve",
        said=f"True positive rate against false positive rate; {'; '.join(told)}.",
        x_title="false positive rate",
        y_title="true positive rate",
        series=made,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal=True,
    )
    return drawn(plot)


def _precision(negative: Floats, positive: Floats, noise: float) -> Markup:
    zeros, ones = np.maximum(negative, 0), np.maximum(positive, 0)
    found, bins = rates(zeros, ones), len(ones)
    above = np.cumsum((zeros + ones)[::-1])[::-1]
    kept = [k for k in range(bins) if above[k] > 4 * noise * math.sqrt(bins - k) and above[k] >= 1]
    x, y = [found["true_positive_rate"][k] for k in kept], [found["precision"][k] for k in kept]
    off = [SURE * share_error(found["precision"][k], float(above[k]), bins - k, bins - k, noise) for k in kept]
    share = float(ones.sum() / max(ones.sum() + zeros.sum(), 1.0))
    plot = Plot(
        title="Precision and recall",
        said=f"Precision at each recall; {share:.2f} of the records are positive.",
        x_title="recall",
        y_title="precision",
        series=[Series("this version", x, y, _below(y, off, 0.0), _above(y, off, 1.0))],
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        level=share,
    )
    return drawn(plot)


def _calibration(negative: Floats, positive: Floats, noise: float) -> Markup:
    """Of the probability that is told: which part of the records is positive, in groups of about equal size."""
    bins = len(positive)
    middle = (np.arange(bins) + 0.5) / bins
    odds = (middle / (1 - middle)) ** SPREAD
    told = odds / (1 + odds)
    rows = np.maximum(negative, 0) + np.maximum(positive, 0)
    groups = np.minimum((np.cumsum(rows) - rows / 2) / max(float(rows.sum()), 1.0) * PLACES, PLACES - 1).astype(int)
    x, y, off = [], [], []
    for group in range(PLACES):
        here = groups == group
        count, hits = float((negative + positive)[here].sum()), float(positive[here].sum())
        cells = int(here.sum())
        if count < max(1.0, 4 * noise * math.sqrt(2 * cells)):
            continue
        share = min(max(hits / count, 0.0), 1.0)
        x.append(float((told * rows)[here].sum() / max(float(rows[here].sum()), 1e-9)))
        y.append(share)
        off.append(SURE * share_error(share, count, cells, cells, noise))
    plot = Plot(
        title="Calibration",
        said="Of the records that are told a probability, how many are positive; on the diagonal both agree.",
        x_title="probability that is told",
        y_title="share that is positive",
        series=[Series("this version", x, y, _below(y, off, 0.0), _above(y, off, 1.0), joined=False)],
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal=True,
    )
    return drawn(plot)


def _of_classes(question: Confusion, counts: Floats, noise: float) -> list[Markup]:
    count, names = len(question.classes), question.classes
    matrix = np.maximum(counts[: count * count].reshape(count, count), 0)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1.0)
    grid = Grid(
        title="Confusion",
        said="Of the records of each true class, the part that is told each class.",
        rows=names,
        columns=names,
        values=shares.tolist(),
        texts=[[f"{100 * share:.0f}%" for share in row] for row in shares],
        column_title="told",
    )
    ranked = counts[count * count : -1].reshape(count, 2, question.bins)
    curves = [(name, ranked[k][0], ranked[k][1]) for k, name in enumerate(names)]
    common = sorted(curves, key=lambda curve: -float(curve[2].sum()))[:CLASSES]
    return [gridded(grid), _roc(common, 0.0)]


def _of_residuals(question: Residuals, report: EvaluationReport) -> list[Markup]:
    found = question.curves(np.array(report.counts, dtype=np.int64))
    places = [k for k in range(len(found["prediction"])) if f"calibration[{k}]" in report.metrics]
    x = [found["prediction"][k] for k in places]
    y = [report.metrics[f"calibration[{k}]"] for k in places]
    off = [SURE * report.errors[f"calibration[{k}]"] for k in places]
    residuals = Plot(
        title="Residuals by prediction",
        said="Mean of outcome less prediction, by tenth of the range that is told; at zero nothing is off.",
        x_title="prediction",
        y_title="mean residual",
        series=[Series("this version", x, y, _below(y, off), _above(y, off), joined=False)],
        level=0.0,
    )
    records = Plot(
        title="Where the predictions lie",
        said="Held-out records by what they are told.",
        x_title="prediction",
        y_title="records",
        series=[Series("records", found["prediction"], found["records"])],
        y_range=(0.0, max(1.0, 1.08 * max(found["records"]))),
    )
    return [drawn(residuals), drawn(records)]


def _below(values: Sequence[float], off: Sequence[float], least: float = -math.inf) -> list[float]:
    return [max(least, value - error) for value, error in zip(values, off, strict=True)]


def _above(values: Sequence[float], off: Sequence[float], most: float = math.inf) -> list[float]:
    return [min(most, value + error) for value, error in zip(values, off, strict=True)]
