"""Preprocessing and scoring: the same numbers at the client and at the endpoint."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.language.config import Config
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
    assert np.array_equal(spec.matrix(spec.frame(rows)), spec.matrix(frame))


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
