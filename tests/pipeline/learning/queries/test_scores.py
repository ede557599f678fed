"""Histogram metrics against scikit-learn on the same scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.learning.queries.scores import metrics, roc_auc_error


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    draw = np.random.default_rng(0)
    labels = draw.random(20_000) < 0.4
    scores = 1 / (1 + np.exp(-draw.normal(1.3 * labels - 0.5, 1.0)))
    return labels, scores


def histogram(labels, scores, bins):  # type: ignore[no-untyped-def]
    at = np.minimum((scores * bins).astype(int), bins - 1)
    return np.bincount(at[~labels], minlength=bins), np.bincount(at[labels], minlength=bins)


def test_fine_bins_agree_with_exact_metrics(scored) -> None:  # type: ignore[no-untyped-def]
    labels, scores = scored
    found = metrics(*histogram(labels, scores, 1000))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=2e-4)
    assert found["pr_auc"] == pytest.approx(average_precision_score(labels, scores), abs=2e-3)
    assert found["accuracy"] == pytest.approx(((scores >= 0.5) == labels).mean(), abs=1e-9)
    assert found["recall"] == pytest.approx((scores[labels] >= 0.5).mean(), abs=1e-9)
    assert found["precision"] == pytest.approx(labels[scores >= 0.5].mean(), abs=1e-9)


def test_forty_bins_are_enough(scored) -> None:  # type: ignore[no-untyped-def]
    labels, scores = scored
    assert metrics(*histogram(labels, scores, 40))["roc_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


def test_the_stated_error_is_the_error_of_noise(scored) -> None:  # type: ignore[no-untyped-def]
    zeros, ones = histogram(*scored, 40)
    exact = metrics(zeros, ones)["roc_auc"]
    draw = np.random.default_rng(1)
    noisy = [metrics(zeros + draw.normal(0, 30, 40), ones + draw.normal(0, 30, 40))["roc_auc"] for _ in range(300)]
    sampling = roc_auc_error(zeros, ones, 0.0)
    stated = np.sqrt(roc_auc_error(zeros, ones, 30.0) ** 2 - sampling**2)
    assert np.std(np.array(noisy) - exact) == pytest.approx(stated, rel=0.2)
    assert 0.002 < sampling < 0.005


def test_degenerate_counts_stay_in_range() -> None:
    for zeros, ones in [([0] * 4, [0] * 4), ([-3, 1, 0, 0], [0, 0, -2, 1]), ([5, 0, 0, 0], [0, 0, 0, 5])]:
        assert all(0 <= value <= 1 for value in metrics(zeros, ones).values())
    assert metrics([5, 0, 0, 0], [0, 0, 0, 5])["roc_auc"] == 1.0
