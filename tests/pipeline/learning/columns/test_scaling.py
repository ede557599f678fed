"""Numbers between bounds as numbers from 0 to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.columns.numeric import Numeric
from pipeline.learning.columns.scaling import Scale, grid, quantiles, scaling

SCALES: list[Scale] = ["linear", "log", "quantile"]
bounds = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scales = pytest.mark.parametrize("scale", SCALES)


@scales
@given(bounds=bounds, parts=st.lists(st.floats(0, 1), min_size=2, max_size=9), at=st.lists(st.floats(0, 1), min_size=2))
def test_what_is_larger_is_not_smaller_and_all_is_from_0_to_1(
    scale: Scale, bounds: tuple[float, float], parts: list[float], at: list[float]
) -> None:
    low, high = bounds
    edges = [low, *sorted(low + part * (high - low) for part in parts), high]
    values = np.clip(low + np.array([0.0, *sorted(at), 1.0]) * (high - low), low, high)
    found = scaling(low, high, scale, edges)(values)
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


@scales
@given(bounds=bounds, bins=st.integers(4, 300))
def test_a_grid_has_as_many_bins_as_were_asked_for(scale: Scale, bounds: tuple[float, float], bins: int) -> None:
    edges = grid(*bounds, bins, scale)
    assert len(edges) == bins + 1
    assert (np.diff(edges) > 0).all()
    assert edges[0] == bounds[0]
    assert edges[-1] == pytest.approx(bounds[1])


def test_equal_edges_stand_for_their_middle() -> None:
    """Half of all records are zero."""
    edges = [0.0, 0.0, 0.0, 1.0, 9.0]
    assert scaling(0, 9, "quantile", edges)(np.array([0.0, 1.0, 9.0])).tolist() == [0.25, 0.75, 1.0]


@given(counts=st.lists(st.integers(0, 50), min_size=4, max_size=30).filter(lambda counts: sum(counts) > 0))
def test_quantiles_of_counts_have_that_share_below_them(counts: list[int]) -> None:
    edges = np.arange(len(counts) + 1, dtype=float)
    records = np.repeat(edges[:-1], counts) + 0.5
    for level in (0.05, 0.25, 0.5, 0.9):
        found = quantiles(edges, np.array(counts, dtype=float), np.array([level]))[0]
        assert (records < np.floor(found)).mean() <= level + 1e-9
        assert (records < np.ceil(found)).mean() >= level - 1e-9


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"edges": [0, 1]}, "edges are those of scale quantile"),
        ({"scale": "quantile", "edges": [0, 2, 1]}, "edges that rise"),
        ({"scale": "quantile", "edges": [1, 1]}, "edges that rise"),
        ({"scale": "quantile", "edges": [0, float("nan")]}, "edges that rise"),
        ({"scale": "quantile", "edges": [-1, 4]}, "edges from 0"),
        ({"scale": "sqrt"}, "linear"),
    ],
)
def test_scales_that_mean_nothing_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Numeric.model_validate({"kind": "numeric", "low": 0, "high": 5, **fields})
