"""What is asked about against what was trained on: a change shows, chance and noise do not."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.learning.columns.column import Column
from pipeline.learning.queries.query import Rows
from pipeline.learning.queries.statistics import Statistics
from pipeline.stages.values import StatisticsReport
from server.evidence.drift import drifts
from server.serving.gateway.intake import SAMPLED, WINDOW, Intake
from tests.support import table

QUESTION = Statistics(
    columns={
        "age": Column.of({"kind": "numeric", "low": 18, "high": 95}),
        "lab": Column.of({"kind": "numeric", "low": 0, "high": 12, "unknown": [-1]}),
        "unit": Column.of({"kind": "categorical", "categories": ["medical", "surgical", "intensive"]}),
    },
    groups=("no", "yes"),
    fine=40,
)
MODELS: Any = {1: SimpleNamespace(question=QUESTION)}


def report(frame: pd.DataFrame, noise: float, seed: int = 0) -> StatisticsReport:
    groups = (frame["died"] == "yes").to_numpy().astype(np.int64)
    counts = QUESTION.count(Rows(np.zeros(len(frame), dtype=np.float32), frame, groups), np.zeros(0))
    source = np.random.default_rng(seed)
    noisy = counts + np.rint(source.normal(0, noise, len(counts))).astype(np.int64)
    return StatisticsReport(question=QUESTION, counts=tuple(noisy.tolist()), noise=noise)


def asked(frame: pd.DataFrame) -> list[dict[str, list[int]]]:
    """Two replicas that were asked about half of it each."""
    found = []
    for half in (frame[::2], frame[1::2]):
        intake, rows = Intake(), half[list(QUESTION.columns)].to_dict("records")
        for at in range(0, len(rows), SAMPLED):
            intake.take(1, rows[at : at + SAMPLED])
            intake.count(MODELS)
        found.append(intake.counted["1"])
    return found


@pytest.mark.parametrize("noise", [0.0, 8.0, 30.0])
def test_the_same_world_is_not_taken_for_another(noise: float) -> None:
    moved = 0
    for seed in range(10):
        reference = report(table(5000, seed), noise, seed)
        moved += any(one.moved(0.1) for one in drifts(reference, asked(table(1500, 100 + seed))))
    assert moved == 0


@pytest.mark.parametrize("noise", [0.0, 8.0, 30.0])
def test_a_column_that_moved_is_named_and_no_other(noise: float) -> None:
    now = table(1500, 7)
    now["age"] = (now["age"] + 25).clip(upper=95)
    first, *others = drifts(report(table(5000), noise), asked(now))
    assert (first.column, first.moved(0.25)) == ("age", True)
    assert not any(one.moved(0.25) for one in others)
    assert "inputs of age moved" in first.words


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("unit", "palliative", "any other"),
        ("lab", -1, "missing"),
        ("lab", 500, "out of bounds"),
        ("age", None, "missing"),
    ],
)
def test_what_never_was_is_news_also_where_noise_hid_that_it_was_not(column: str, value: Any, told: str) -> None:
    now = table(1500, 7).astype({column: object})
    now.loc[::3, column] = value
    first = drifts(report(table(5000), 8.0), asked(now))[0]
    assert (first.column, first.moved(0.25), told in first.farthest) == (column, True, True), first


def test_of_what_was_not_asked_or_not_paid_for_nothing_is_said() -> None:
    assert drifts(StatisticsReport(), asked(table(100))) == []
    assert drifts(report(table(5000), 8.0), []) == []
    assert drifts(report(table(5000), 8.0), [{"age": [1, 2, 3]}]) == []


def test_only_the_latest_rows_count_and_only_of_versions_that_are_held() -> None:
    intake = Intake()
    old, new = table(4 * WINDOW, 1), table(2 * WINDOW, 2)
    new["unit"] = "medical"
    for frame in (old, new):
        rows = frame[list(QUESTION.columns)].to_dict("records")
        for at in range(0, len(rows), SAMPLED):
            intake.take(1, rows[at : at + SAMPLED])
            intake.take(2, rows[at : at + SAMPLED])
            intake.count(MODELS)
    counted = intake.counted["1"]
    assert sum(counted["unit"]) <= WINDOW + SAMPLED
    assert max(counted["unit"]) == sum(counted["unit"])
    assert list(intake.counted) == ["1"]
    intake.count({})
    assert intake.counted == {}


def test_counts_are_those_of_the_training_data_for_the_same_rows() -> None:
    frame = table(SAMPLED)
    frame["died"] = "no"
    intake = Intake()
    intake.take(1, frame[list(QUESTION.columns)].to_dict("records"))
    intake.count(MODELS)
    tables = QUESTION.tables(np.array(report(frame, 0.0).counts))
    for name, counts in intake.counted["1"].items():
        assert counts == tables[name].sum(axis=0).tolist()
    assert math.isclose(sum(intake.counted["1"]["age"]), SAMPLED)
