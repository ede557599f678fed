"""Every question against scikit-learn on the same records, and what one record changes."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from pipeline.learning.queries.confusion import LARGEST_LOSS, Confusion
from pipeline.learning.queries.query import Query, Rows
from pipeline.learning.queries.residuals import Residuals
from pipeline.learning.queries.scores import Scores
from pipeline.learning.queries.statistics import Statistics
from pipeline.learning.tasks.task import Task

NAMES = ("a", "b", "c")
SCORES, CONFUSION, RESIDUALS = Scores(bins=40), Confusion(classes=NAMES, bins=200), Residuals(low=-10, high=30)
EVERY: list[tuple[Query, int]] = [(SCORES, 1), (CONFUSION, 3), (RESIDUALS, 1)]


def drawn(query: Query, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Targets, and predictions that have to do with them."""
    draw = np.random.default_rng(seed)
    if isinstance(query, Residuals):
        targets = draw.beta(2, 5, rows).astype(np.float32)
        return targets, np.clip(targets + draw.normal(0.02, 0.1, rows), -0.2, 1.2).reshape(-1, 1)
    labels = draw.integers(0, 3 if isinstance(query, Confusion) else 2, rows)
    if isinstance(query, Scores):
        return labels.astype(np.float32), 1 / (1 + np.exp(-draw.normal(labels - 0.5, 1.0))).reshape(-1, 1)
    logits = draw.normal(0, 1, (rows, 3)) + 1.5 * np.eye(3)[labels]
    return labels.astype(np.float32), np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_every_question_is_here() -> None:
    here = {type(query) for query, _ in EVERY} | {Statistics}  # of raw rows: test_statistics.py
    assert here == {Query.known(name) for name in Query.BUILT_IN}


@pytest.mark.parametrize(("query", "width"), EVERY, ids=lambda value: getattr(value, "kind", ""))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_record_changes_no_more_than_the_norm_says(query: Query, width: int, data: st.DataObject) -> None:
    number = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, 0.5, -0.0, 2.0]))
    targets, told = drawn(query, 20, 1)
    before = query.count(Rows(targets), told)
    assert before.shape == (query.size,)
    assert before.dtype == np.int64
    limit = [0.0, 1.0, 2.0] if isinstance(query, Confusion) else [0.0, 1.0]
    target = data.draw(
        st.sampled_from([*limit, math.nan])
        if not isinstance(query, Residuals)
        else st.one_of(number, st.just(math.nan))
    )
    if isinstance(query, Scores):
        target = 0.0 if math.isnan(target) else target
    one = np.array([data.draw(number) for _ in range(width)])
    after = query.count(
        Rows(np.append(targets, np.float32(target)).astype(np.float32)), np.concatenate([told, one.reshape(1, -1)])
    )
    assert np.linalg.norm(after - before) <= query.norm * (1 + 1e-9)
    if math.isnan(target):
        assert np.array_equal(after, before), "a record without an outcome is in no metric"
    again = Query.of(query.model_dump())
    assert again == query


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(300, 3000))
def test_several_classes_agree_with_scikit_learn(seed: int, rows: int) -> None:
    targets, told = drawn(CONFUSION, rows, seed)
    labels = targets.astype(int)
    best = told.argmax(axis=1)
    found = CONFUSION.read(CONFUSION.count(Rows(targets), told), 0.0)
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(labels, best), abs=1e-9)
    assert found["macro_f1"].value == pytest.approx(sk.f1_score(labels, best, average="macro"), abs=1e-9)
    assert found["macro_precision"].value == pytest.approx(
        sk.precision_score(labels, best, average="macro", zero_division=0), abs=1e-9
    )
    assert found["recall[b]"].value == pytest.approx(sk.recall_score(labels, best, average=None)[1], abs=1e-9)
    auc = sk.roc_auc_score(labels, told, multi_class="ovr")
    assert found["macro_roc_auc"].value == pytest.approx(auc, abs=max(1e-3, found["macro_roc_auc"].error / 3))
    clipped = np.clip(told, math.exp(-LARGEST_LOSS), 1)
    assert abs(found["log_loss"].value - sk.log_loss(labels, clipped)) < found["log_loss"].error
    assert found["confusion[a, c]"].value == sk.confusion_matrix(labels, best)[0, 2]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(300, 3000))
def test_a_regression_agrees_with_scikit_learn(seed: int, rows: int) -> None:
    targets, told = drawn(RESIDUALS, rows, seed)
    true, said = 40 * targets.astype(float) - 10, 40 * np.clip(told[:, 0], 0, 1) - 10
    found = RESIDUALS.read(RESIDUALS.count(Rows(targets), told), 0.0)
    assert abs(found["mae"].value - sk.mean_absolute_error(true, said)) < min(0.05, found["mae"].error)
    assert abs(found["rmse"].value - math.sqrt(sk.mean_squared_error(true, said))) < min(0.1, found["rmse"].error)
    assert abs(found["r2"].value - sk.r2_score(true, said)) < min(0.05, found["r2"].error)
    within = (np.abs(true - said) <= found["interval"].value + found["interval"].error).mean()
    assert within >= 0.9 - 3 * math.sqrt(0.09 / rows)
    assert found["interval"].value < np.quantile(np.abs(true - said), 0.9) + found["interval"].error
    k = int(np.argmax(np.bincount(np.minimum((np.clip(told[:, 0], 0, 1) * 10).astype(int), 9), minlength=10)))
    inside = np.minimum((np.clip(told[:, 0], 0, 1) * 10).astype(int), 9) == k
    assert abs(found[f"calibration[{k}]"].value - (true - said)[inside].mean()) < found[f"calibration[{k}]"].error


@pytest.mark.parametrize(
    ("query", "metric"),
    [
        *((SCORES, name) for name in ("accuracy", "precision", "recall", "positive_share")),
        *((CONFUSION, name) for name in ("accuracy", "macro_roc_auc", "recall[b]", "f1[a]", "log_loss")),
        *((RESIDUALS, name) for name in ("mae", "rmse", "r2")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_stated_errors_are_the_errors_of_noise(query: Query, metric: str) -> None:
    """Under noise so large that sampling does not matter beside it. The log loss states a bound."""
    targets, told = drawn(query, 20_000, 3)
    exact, noise = query.count(Rows(targets), told), 60 * query.norm / math.sqrt(7)
    draw = np.random.default_rng(4)
    noisy = [np.rint(exact + draw.normal(0, noise, len(exact))).astype(np.int64) for _ in range(200)]
    spread = float(np.std([query.read(vector, noise)[metric].value for vector in noisy]))
    sampled, both = query.read(exact, 0.0)[metric].error, query.read(exact, noise)[metric].error
    stated = math.sqrt(max(both**2 - sampled**2, 0))
    assert spread < 1.35 * both
    assert spread > 0.5 * stated


@pytest.mark.parametrize(("query", "width"), EVERY, ids=lambda value: getattr(value, "kind", ""))
def test_counts_that_are_all_noise_are_read_without_an_error(query: Query, width: int) -> None:
    draw = np.random.default_rng(5)
    for scale in (0, 1, 1000, 10**6):
        vector = np.rint(draw.normal(0, scale, query.size)).astype(np.int64)
        for measured in query.read(vector, float(scale)).values():
            assert math.isfinite(measured.value)
            assert math.isfinite(measured.error)
            assert measured.error >= 0


TASKS: list[dict[str, Any]] = [
    {"kind": "binary", "column": "y", "positive": ["yes", 1]},
    {"kind": "classes", "column": "y", "classes": ["a", "b", 3]},
    {"kind": "regression", "column": "y", "low": -1, "high": 4},
    {"kind": "regression", "column": "y", "low": 0, "high": 4, "loss": "absolute"},
    {"kind": "regression", "column": "y", "low": 0, "high": 4, "loss": "poisson"},
]
tasks = pytest.mark.parametrize("task", [Task.of(tree) for tree in TASKS], ids=lambda task: repr(task.declared))


@tasks
def test_a_task_knows_all_about_itself(task: Task) -> None:
    cells = pd.Series(["yes", "a", "3", 3.0, 1, "-5", "", None, "2.5", "nan"], dtype=object)
    targets = task.targets(cells)
    assert targets.dtype == np.float32
    for row in range(len(cells)):
        alone = task.targets(cells[row : row + 1])
        assert np.array_equal(alone, targets[row : row + 1], equal_nan=True), "by that cell alone"
    groups = task.grouped(cells)
    assert ((groups >= 0) & (groups < task.groups)).all()
    if task.broken is not None:
        assert (np.isnan(targets) <= (groups == task.broken)).all()
    outputs = torch.randn(len(cells), task.outputs, requires_grad=True)
    losses = task.losses(outputs, torch.from_numpy(targets))
    assert losses.shape == (len(cells),)
    assert torch.isfinite(losses).all()
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert torch.isfinite(gradient).all()
    assert not gradient[torch.from_numpy(np.isnan(targets))].any(), "nothing is learned where the outcome is unknown"
    said = task.predictions(outputs.detach().numpy())
    question = task.question(10)
    measured = question.read(question.count(Rows(targets), said), 0.0)
    assert set(task.measures) <= set(measured)
    assert task.headline in measured
    answers = task.answers(outputs.detach().numpy(), {name: found.value for name, found in measured.items()})
    assert len(answers) == len(cells)
    import jsonschema

    for answer in answers:
        jsonschema.validate(answer, task.answer_schema)
    assert Task.of(task.model_dump()) == task
    assert task.column in task.said


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "regression", "column": "y", "low": 1, "high": 1}, "expected low < high"),
        ({"kind": "regression", "column": "y", "low": 1, "high": 3, "loss": "poisson"}, "a count begins at 0"),
        ({"kind": "regression", "column": "y", "low": 0, "high": math.inf}, "finite number"),
        ({"kind": "classes", "column": "y", "classes": ["a"]}, "at least 2"),
        ({"kind": "classes", "column": "y", "classes": [1, "1.0"]}, "twice: 1"),
        ({"kind": "ranking", "column": "y"}, "unknown kind 'ranking'; known are binary, classes, regression"),
        ({"column": "y"}, "unknown kind None"),
        ("binary", "expected a mapping"),
    ],
)
def test_a_task_that_cannot_be_is_refused(tree: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Task.of(tree)
