"""What every model that is learned from sums keeps: only the sum decides, and no record adds more than it may."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.columns.column import Column
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.summing import NORM
from pipeline.learning.tasks.task import Task
from privacy.errors import KindUnfit
from tests.pipeline.learning.models.invented import TASKS, forest, learned, net_of, rows, targets

NETS = {
    "additive": lambda task: net_of(task, rounds=12, bins=8),
    "chosen": lambda task: forest(task, trees=3),
    "drawn": lambda task: forest(task, trees=4, splits="random"),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("task", TASKS)
def test_only_the_sum_decides_however_the_rows_are_divided(task: str, kind: str) -> None:
    net, spec = NETS[kind](task)
    frame = rows(600)
    features, wanted = spec.matrix(frame), targets(frame, task)
    cut = [slice(0, 50), slice(50, 51), slice(51, 400), slice(400, 600), slice(600, 600)]
    whole = learned(net, spec.task, [(features, wanted)])
    assert np.array_equal(whole, learned(net, spec.task, [(features[part], wanted[part]) for part in cut]))


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("task", TASKS)
def test_no_record_adds_more_than_the_norm_in_any_round(task: str, kind: str) -> None:
    net, spec = NETS[kind](task)
    frame, draw = rows(300), np.random.default_rng(2)
    features, wanted = spec.matrix(frame), targets(frame, task)
    weights = net.initial()
    for step in range(net.rounds):
        for row in draw.choice(300, 25, replace=False):
            one = net.count(spec.task, weights, features[row : row + 1], wanted[row : row + 1])
            assert np.linalg.norm(one) <= NORM, step
        total = net.count(spec.task, weights, features, wanted)
        weights = net.advance(spec.task, weights, total * 50, 0.0)  # whatever the sums lead to


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("task", TASKS)
def test_a_poisoned_sum_makes_no_record_stand_out(task: str, kind: str) -> None:
    """Whoever may add anything to a sum could make a bin infinite, and learn from an error that somebody is in it."""
    net, spec = NETS[kind](task)
    frame, draw = rows(200), np.random.default_rng(4)
    features, wanted = spec.matrix(frame), targets(frame, task)
    weights = net.initial()
    with np.errstate(all="ignore"):
        for step in range(net.rounds):
            total = net.count(spec.task, weights, features, wanted)
            if step > 1:
                total = total + draw.choice([0, 0, 2**36, -(2**36)], len(total))
            weights = net.advance(spec.task, weights, total, 1.0)
            assert np.isfinite(weights).all()
            one = net.count(spec.task, weights, features[:1], wanted[:1]) if step + 1 < net.rounds else total[:0]
            assert np.linalg.norm(one) <= NORM
        assert np.isfinite(spec.task.predictions(net.outputs(weights, features))).all()


@pytest.mark.parametrize("kind", NETS)
def test_a_record_without_an_outcome_adds_nothing(kind: str) -> None:
    net, spec = NETS[kind]("binary")
    features = spec.matrix(rows(5))
    assert not net.count(spec.task, net.initial(), features, np.full(5, np.nan, dtype=np.float32)).any()


@pytest.mark.parametrize("kind", NETS)
def test_nobody_takes_local_steps_with_it(kind: str) -> None:
    net, _ = NETS[kind]("binary")
    with pytest.raises(KindUnfit, match="takes no local steps"):
        net.module(net.initial())


@pytest.mark.parametrize("kind", ["additive", "trees"])
def test_a_column_without_bins_is_refused(kind: str) -> None:
    columns = {"note": Column.of({"kind": "text"})}
    with pytest.raises(ValueError, match="column note has no bins"):
        Model.of({"kind": kind}).fits(FeatureSpec(columns=columns, task=Task.of(TASKS["binary"])).shape)


@given(st.integers(0, 10_000))
def test_weights_that_somebody_made_up_raise_nothing(seed: int) -> None:
    """Whoever evaluates names the weights: an error that depends on where a record lands would say that it did."""
    draw = np.random.default_rng(seed)
    for net, spec in (forest(trees=2), net_of(pairs=2)):
        weights = (draw.choice([1, 1e3, 1e9, 1e30], net.parameters) * draw.normal(size=net.parameters)).astype(
            np.float32
        )
        with np.errstate(all="ignore"):
            assert net.outputs(weights, spec.matrix(rows(20, seed))).shape == (20, 1)
