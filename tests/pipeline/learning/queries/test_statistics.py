"""Distributions from counts: what one record changes, what follows without noise, and how far off with it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learning.contract import DataContract
from pipeline.learning.queries.query import Query, Rows
from pipeline.learning.queries.statistics import Statistics

COLUMNS: dict[str, Any] = {
    "age": {"kind": "numeric", "low": 0, "high": 100, "unknown": [-1]},
    "income": {"kind": "numeric", "low": 0, "high": 1e6, "scale": "log"},
    "ward": {"kind": "categorical", "categories": ["a", "b", "c"]},
    "smokes": {"kind": "boolean"},
    "name": {"kind": "hashed", "buckets": 5},
    "since": {"kind": "time", "earliest": "2001-01-01", "latest": "2021-01-01", "zone": "UTC"},
}
CONTRACT = DataContract.model_validate(
    {"task": {"kind": "classes", "column": "outcome", "classes": ["well", "ill"]}, "columns": COLUMNS}
)
ASKED = CONTRACT.distribution(50)
NOTHING = np.zeros(0)


def table(rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": np.where(draw.random(rows) < 0.05, -1, draw.normal(50, 15, rows).clip(0, 100)),
            "income": draw.lognormal(10, 1, rows).clip(0, 1e6),
            "ward": draw.choice(["a", "b", "c", "z"], rows, p=[0.5, 0.3, 0.15, 0.05]),
            "smokes": draw.choice(["true", "false", ""], rows),
            "name": draw.choice(["ann", "bob", "eve", ""], rows),
            "since": draw.choice(["2003-05-01", "2015-01-01", "never", ""], rows),
            "outcome": draw.choice(["well", "ill", "?"], rows, p=[0.6, 0.39, 0.01]),
        }
    )


def counted(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    groups = CONTRACT.task.grouped(frame["outcome"])
    return ASKED.count(Rows(np.zeros(len(frame), dtype=np.float32), frame, groups), NOTHING)


CELL = st.one_of(st.none(), st.integers(-5, 200), st.floats(), st.sampled_from(["a", "true", "2003-05-01", "", "?"]))


@given(cells=st.lists(CELL, min_size=7, max_size=7))
def test_whatever_a_record_holds_it_changes_one_count_a_column(cells: list[Any]) -> None:
    frame = table(5, 1).astype(object)
    more = pd.concat([frame, pd.DataFrame([cells], columns=frame.columns, dtype=object)], ignore_index=True)
    changed = counted(more) - counted(frame)
    assert changed.min() >= 0
    assert changed.sum() == len(COLUMNS)
    assert np.linalg.norm(changed) <= ASKED.norm * (1 + 1e-12)
    assert Query.of(ASKED.model_dump()) == ASKED
    assert all(len(column.bin_names(50)) == column.bins(50) for column in ASKED.columns.values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(2000, 6000))
def test_without_noise_it_is_pandas_to_the_width_of_a_bin(seed: int, rows: int) -> None:
    frame = table(rows, seed)
    found = ASKED.read(counted(frame), 0.0)
    known = frame["age"][frame["age"] >= 0]
    assert found["rows"].value == pytest.approx(rows)
    for metric, truth in {
        "mean[age]": known.mean(),
        "deviation[age]": known.std(),
        "median[age]": known.median(),
        "p95[age]": known.quantile(0.95),
    }.items():
        assert abs(found[metric].value - truth) < 2.0, "the width of a bin"
    median = frame["income"].median()
    assert found["median[income]"].value == pytest.approx(median, rel=0.15), "bins grow with the amounts"
    assert found["share[ward=(any other)]"].value == pytest.approx((frame["ward"] == "z").mean())
    assert found["share[age=(missing)]"].value == pytest.approx((frame["age"] == -1).mean())
    assert found["share[since=(out of bounds)]"].value == pytest.approx((frame["since"] == "never").mean())
    assert found["share[outcome=ill]"].value == pytest.approx((frame["outcome"] == "ill").mean())
    assert found["share[smokes=true]"].value == pytest.approx((frame["smokes"] == "true").mean())


def test_stated_errors_are_those_of_the_noise() -> None:
    """95 of 100 figures, over a hundred draws of the noise, within two errors of those without it."""
    frame, draw = table(20_000, 3), np.random.default_rng(4)
    exact, noise = counted(frame), 20.0
    truth, within, all_of = ASKED.read(exact, 0.0), 0, 0
    for _ in range(100):
        told = ASKED.read(exact + np.rint(draw.normal(0, noise, ASKED.size)).astype(np.int64), noise)
        for name, measured in told.items():
            all_of += 1
            within += abs(measured.value - truth[name].value) <= 2 * measured.error
    assert all_of > 2500
    assert within / all_of >= 0.95


def test_what_is_lost_in_the_noise_is_not_told() -> None:
    draw = np.random.default_rng(5)
    noise = 500.0
    told = ASKED.read(np.rint(draw.normal(0, noise, ASKED.size)).astype(np.int64), noise)
    assert "mean[age]" not in told
    assert all(np.isfinite([measured.value, measured.error]).all() for measured in told.values())


def test_fitted_edges_divide_the_records_evenly() -> None:
    waiting = CONTRACT.model_copy(
        update={
            "columns": {
                **CONTRACT.columns,
                "income": CONTRACT.columns["income"].model_copy(update={"scale": "quantile"}),
            }
        }
    )
    frame, asked = table(20_000, 6), waiting.distribution(200)
    groups = waiting.task.grouped(frame["outcome"])
    total = asked.count(Rows(np.zeros(len(frame), dtype=np.float32), frame, groups), NOTHING)
    noisy = total + np.rint(np.random.default_rng(7).normal(0, 10, asked.size)).astype(np.int64)
    income = asked.fitted(noisy)["income"]
    assert not income.unfitted
    even = income.encoded(frame["income"])[:, 0]
    assert np.abs(np.quantile(even, np.linspace(0.1, 0.9, 9)) - np.linspace(0.1, 0.9, 9)).max() < 0.04
    assert asked.fitted(noisy)["age"] == waiting.columns["age"]
    assert isinstance(asked, Statistics)


def test_of_nothing_but_noise_edges_are_still_edges() -> None:
    waiting = CONTRACT.columns["income"].model_copy(update={"scale": "quantile"})
    for seed in range(20):
        counts = np.random.default_rng(seed).normal(0, 100, 50)
        fitted = waiting.fitted(counts)
        assert type(waiting).model_validate(fitted.model_dump()) == fitted
        assert np.isfinite(fitted.encoded(pd.Series([0.0, 5.0, 1e6, -3.0]))).all()
