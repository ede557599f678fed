"""The order of the sums, and arithmetic on the bins of one axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from pipeline.learning.models.binned import grouped, risen, smoothed
from pipeline.learning.models.ordering import stage_of


@given(st.integers(8, 200), st.booleans(), st.booleans())
def test_every_order_of_sums_comes_to_its_end(rounds: int, pairs: bool, declared: bool) -> None:
    stages = [stage_of(step, step + 1, rounds, pairs=pairs, declared=declared and pairs) for step in range(rounds)]
    for what in {stage.what for stage in stages}:
        own = [stage for stage in stages if stage.what == what]
        assert [stage.number for stage in own] == list(range(own[0].of)), "counted from zero to the end"
    assert stages[-1].what == "level"
    assert ("screen" in {stage.what for stage in stages}) == (pairs and not declared)


def test_the_level_is_set_in_the_last_rounds_however_many_were_lost() -> None:
    """Four of forty: the sums of the last two rounds are the 35th and the 36th."""
    found = [stage_of(step, step + 5, 40, pairs=True, declared=False).what for step in (32, 33, 34, 35)]
    assert found == ["both", "both", "level", "level"]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_the_nearest_rising_shape(shape: list[float]) -> None:
    weights = np.linspace(1, 7, len(shape))
    own = risen(np.array(shape), weights)
    assert own == pytest.approx(isotonic_regression(np.array(shape), sample_weight=weights), abs=1e-9)


@given(st.integers(2, 40), st.integers(0, 5), st.integers(0, 1000))
def test_the_smoothed_step_solves_its_system(ordered: int, more: int, seed: int) -> None:
    draw, size = np.random.default_rng(seed), ordered + more
    sums, shape, near = draw.normal(0, 9, size), draw.normal(0, 1, size), draw.uniform(0.1, 9, ordered)
    steep, held = draw.uniform(0.1, 50, size), draw.uniform(0.1, 5, size)
    penalty = np.zeros((size, size))
    for at in range(ordered):
        for other in (at - 1, at + 1):
            if 0 <= other < ordered:
                penalty[at, at] += near[at]
                penalty[at, other] -= near[at]
    wanted = np.linalg.solve(np.diag(steep + held) + penalty, sums - held * shape - penalty @ shape)
    assert smoothed(sums, shape, steep, held, near) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60), st.integers(2, 12), st.booleans())
def test_parts_of_an_axis(counts: list[float], parts: int, ordered: bool) -> None:
    found = grouped(np.array(counts), parts, len(counts) - 1 if ordered else 0)
    assert found.min() >= 0
    assert found.max() < parts or len(counts) <= parts
    if ordered and len(counts) > parts:
        assert (np.diff(found) >= 0).all(), "neighbours stay neighbours"


def test_the_same_on_every_machine_means_no_sum_of_a_library() -> None:
    """What follows from a sum must not depend on how wide a processor's registers are."""
    import inspect

    from pipeline.learning.models import binned, boosting

    text = inspect.getsource(boosting) + inspect.getsource(binned)
    assert not [word for word in (".sum(", ".mean()", "np.dot", "np.sum", "np.linalg", " @ ") if word in text]
