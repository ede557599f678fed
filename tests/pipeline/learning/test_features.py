"""Preprocessing and scoring: the same numbers at the client and at the endpoint."""

import datetime
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.language.config import Config
from pipeline.learning.columns.boolean import Boolean
from pipeline.learning.columns.categorical import Categorical
from pipeline.learning.columns.column import Column, Encoder, Matrix
from pipeline.learning.columns.hashed import Hashed
from pipeline.learning.columns.numeric import Numeric
from pipeline.learning.columns.text import Text
from pipeline.learning.columns.time import Time
from pipeline.learning.columns.tokens import Tokens
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.layered import Layered


def test_values_become_declared_places(config: Config) -> None:
    spec = FeatureSpec.of(config.data)
    frame = pd.DataFrame(
        {"age": [18, 95, 200, None], "lab": [-1, 6, 0, 12], "unit": ["medical", "surgical", "??", "intensive"]}
    )
    expected = np.array(
        [
            [0, 0, 0, 1, 0, 0, 0],
            [1, 0, 0.5, 0, 1, 0, 0],
            [1, 0, 0, 0, 0, 0, 1],
            [0, 1, 1, 0, 0, 1, 0],
        ],
        dtype=np.float32,
    )
    assert spec.width == 7
    assert np.array_equal(spec.matrix(frame), expected)
    assert spec.targets(pd.DataFrame({"died": ["yes", "no", ""]})).tolist()[:2] == [1, 0]
    assert np.isnan(spec.targets(pd.DataFrame({"died": ["", None]}))).all(), "nobody knows"


def test_a_spec_survives_serialisation(config: Config) -> None:
    spec = FeatureSpec.of(config.data)
    assert FeatureSpec.model_validate_json(spec.model_dump_json()) == spec


def test_rows_and_tables_give_the_same_features(config: Config, dataset: Path) -> None:
    spec = FeatureSpec.of(config.data)
    frame = pd.read_csv(dataset).head(50)
    rows = frame[["age", "lab", "unit"]].to_dict("records")
    assert np.array_equal(spec.encoder()(rows), spec.matrix(frame))


class Backwards(Hashed):
    """A column of somebody's own, that knows nothing of single cells."""

    def encoded(self, values: pd.Series) -> Matrix:
        return super().encoded(values)[:, ::-1]

    def encoder(self) -> Encoder:
        return Column.encoder(self)


COLUMNS: dict[str, Column] = {
    "even": Numeric(kind="numeric", low=-3, high=7.5, unknown=(-1, 99)),
    "amount": Numeric(kind="numeric", low=0.1, high=1e6, scale="log"),
    "crowded": Numeric(kind="numeric", low=0, high=9, scale="quantile", edges=(0, 0, 1, 1, 2.5, 9)),
    "name": Categorical(kind="categorical", categories=("a", "1", "2.5", "")),
    "many": Hashed(kind="hashed", buckets=7),
    "own": Backwards(kind="hashed", buckets=5),
    "truth": Boolean(kind="boolean", true=("yes", "1"), false=("no",)),
    "said": Text(kind="text", buckets=11, ngrams=2),
    "words": Tokens(kind="tokens", length=4, buckets=20),
    "when": Time(
        kind="time",
        earliest=datetime.datetime(2001, 1, 1),
        latest=datetime.datetime(2003, 1, 1),
        zone="Europe/Zurich",
        parts=("hour", "weekday", "month", "yearday"),
    ),
}
NUMBER = st.floats() | st.integers(-10, 100).map(float) | st.sampled_from([math.nan, -0.0, 1e308, 0.1, 1.0])
WORD = st.text(max_size=12) | st.sampled_from(["a", "1", "1.0", "2.50", "yes", "no", "", " ", "two words", "A b a"])
MOMENT = st.datetimes().map(str) | st.sampled_from(["", "2002-02-30", "2002-03-01T10:00+05:00", "2002-03-31 02:30:00"])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6))
def test_a_request_and_a_table_are_encoded_to_the_same_bits(data: st.DataObject, rows: int) -> None:
    """Whatever the columns, and however many rows there are beside."""
    spec = FeatureSpec.model_construct(columns=COLUMNS, task=None)
    drawn = {
        name: data.draw(
            st.lists(
                MOMENT if name == "when" else NUMBER if column.dtype == "float64" else WORD,
                min_size=rows,
                max_size=rows,
            )
        )
        for name, column in COLUMNS.items()
    }
    frame = pd.DataFrame({name: pd.Series(cells, dtype=COLUMNS[name].dtype) for name, cells in drawn.items()})
    asked = [{name: cells[row] for name, cells in drawn.items()} for row in range(rows)]
    assert np.array_equal(spec.encoder()(asked), spec.matrix(frame))


@settings(max_examples=25, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 9), max_size=3),
    width=st.integers(1, 12),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 99),
    activation=st.sampled_from(["relu", "tanh"]),
)
def test_numpy_scores_equal_the_trained_module(
    hidden: list[int], width: int, outputs: int, seed: int, activation: Literal["relu", "tanh"]
) -> None:
    net = Layered((width, *hidden, outputs), activation, seed=seed)
    weights = net.initial()
    assert len(weights) == net.parameters
    module = net.module(weights)
    features = np.random.default_rng(seed).random((20, width), dtype=np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(features)).numpy()
    assert np.allclose(net.outputs(weights, features), expected, atol=1e-6)
    tensors = net.as_tensors(weights)
    assert set(tensors) == set(module.state_dict())
    assert np.array_equal(net.from_tensors(tensors), weights)


def test_tensors_that_do_not_fit_are_refused() -> None:
    net = Layered((2, 3, 1))
    tensors = net.as_tensors(net.initial())
    for wrong in ({**tensors, "9.weight": tensors["0.bias"]}, {**tensors, "0.bias": tensors["2.bias"]}, {}):
        with pytest.raises(ValueError, match="tensor"):
            net.from_tensors(wrong)
