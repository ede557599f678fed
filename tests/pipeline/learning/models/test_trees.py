"""Trees that are learned from sums: only the sum decides, no record adds more than it may, and others can load them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.columns.column import Column
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.boosted import OBJECTIVES
from pipeline.learning.models.forest import Forest
from pipeline.learning.models.model import Model
from pipeline.learning.models.summing import NORM
from pipeline.learning.tasks.task import Task
from tests.pipeline.learning.models.test_additive import TASKS, auc, learned, net_of, rows, spec_of, targets


def forest(task: str = "binary", **changes: Any) -> tuple[Forest, FeatureSpec]:
    spec = spec_of(task)
    model = Model.of({"kind": "trees", "trees": 12, "depth": 3, "bins": 16, **changes})
    model.fits(spec.shape)
    net = model.net(spec.shape, spec.task.outputs, 7)
    assert isinstance(net, Forest)
    return net, spec


@pytest.mark.parametrize("splits", ["best", "random"])
@pytest.mark.parametrize("task", TASKS)
def test_only_the_sum_decides_however_the_rows_are_divided(task: str, splits: str) -> None:
    net, spec = forest(task, splits=splits, trees=4)
    frame = rows(500)
    features, wanted = spec.matrix(frame), targets(frame, task)
    cut = [slice(0, 50), slice(50, 51), slice(51, 400), slice(400, 500), slice(500, 500)]
    whole = learned(net, spec.task, [(features, wanted)])
    assert np.array_equal(whole, learned(net, spec.task, [(features[part], wanted[part]) for part in cut]))


@pytest.mark.parametrize("splits", ["best", "random"])
@pytest.mark.parametrize("task", TASKS)
def test_no_record_adds_more_than_the_norm_in_any_round(task: str, splits: str) -> None:
    net, spec = forest(task, splits=splits, trees=3)
    frame, draw = rows(200), np.random.default_rng(2)
    features, wanted = spec.matrix(frame), targets(frame, task)
    weights = net.initial()
    for step in range(net.rounds):
        for row in draw.choice(200, 20, replace=False):
            one = net.count(spec.task, weights, features[row : row + 1], wanted[row : row + 1])
            assert np.linalg.norm(one) <= NORM, step
        total = net.count(spec.task, weights, features, wanted)
        weights = net.advance(spec.task, weights, total * 50, 0.0)  # whatever the sums lead to


@pytest.mark.parametrize("task", TASKS)
def test_a_poisoned_sum_makes_no_record_stand_out(task: str) -> None:
    """Whoever may add anything to a sum could make a bin infinite, and learn from an error that somebody is in it."""
    net, spec = forest(task, trees=3)
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


def test_it_finds_what_columns_say_only_together() -> None:
    frame, held = rows(6000), rows(4000, seed=9)
    net, spec = forest(trees=30)
    weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))])
    best = auc(held.chance.to_numpy(), targets(held, "binary"))
    assert auc(net.outputs(weights, spec.matrix(held))[:, 0], targets(held, "binary")) > best - 0.03


def test_it_is_as_good_as_boosting_of_the_pooled_rows() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame, held = rows(8000), rows(8000, seed=9)
    net, spec = forest(trees=30, depth=4, bins=32)
    features, wanted = spec.matrix(frame), targets(frame, "binary")
    pooled = HistGradientBoostingClassifier(random_state=0).fit(features, wanted)
    weights = learned(net, spec.task, [(features, wanted)])
    own = auc(net.outputs(weights, spec.matrix(held))[:, 0], targets(held, "binary"))
    assert own > auc(pooled.predict_proba(spec.matrix(held))[:, 1], targets(held, "binary")) - 0.005


def test_drawn_splits_stand_noise_that_chosen_ones_do_not() -> None:
    frame, held = rows(6000), rows(4000, seed=9)
    found = {}
    for splits in ("best", "random"):
        net, spec = forest(trees=30, splits=splits)
        noise = NORM * 2.0 * net.rounds**0.5  # of one epsilon, however many rounds there are
        weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))], noise)
        found[splits] = auc(net.outputs(weights, spec.matrix(held))[:, 0], targets(held, "binary"))
    assert found["random"] > max(0.7, found["best"] + 0.05)


@pytest.mark.parametrize("task", ["classes", "squared", "absolute", "poisson"])
def test_it_learns_every_task(task: str) -> None:
    net, spec = forest(task, trees=25)
    frame = rows(3000)
    wanted = targets(frame, task)
    weights = learned(net, spec.task, [(spec.matrix(frame), wanted)])
    said = spec.task.predictions(net.outputs(weights, spec.matrix(frame)))
    if task == "classes":
        assert (said.argmax(axis=1) == wanted).mean() > max((wanted == one).mean() for one in range(3)) + 0.15
    else:
        assert np.abs(said[:, 0] - wanted).mean() < 0.6 * np.abs(np.median(wanted) - wanted).mean()


def test_one_class_and_one_value_come_to_an_end() -> None:
    """Nothing gains anything: every record goes left, and the answer is the beginning."""
    net, spec = forest(trees=3)
    frame = pd.concat([rows(1)] * 50)
    weights = learned(net, spec.task, [(spec.matrix(frame), np.zeros(50, dtype=np.float32))])
    said = spec.task.predictions(net.outputs(weights, spec.matrix(frame)))
    assert np.isfinite(said).all()
    assert said.max() < 0.2


@pytest.mark.parametrize(
    ("tree", "said"), [({"bins": 20}, "power of two"), ({"trees": 0}, "trees"), ({"splits": "good"}, "splits")]
)
def test_what_makes_no_model_is_refused_by_name(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forest(**tree)


def test_a_column_without_bins_is_refused() -> None:
    columns = {"note": Column.of({"kind": "text"})}
    with pytest.raises(ValueError, match="column note has no bins"):
        Model.of({"kind": "trees"}).fits(FeatureSpec(columns=columns, task=Task.of(TASKS["binary"])).shape)


@given(st.integers(0, 2**31), st.integers(0, 50))
def test_drawn_cuts_are_the_same_everywhere(seed: int, tree: int) -> None:
    net, _ = forest()
    counts = np.random.default_rng(1).uniform(0, 100, net.bins)
    first, again = (net.candidates.drawn(counts, f"{seed} {tree}") for _ in range(2))
    assert first == again
    assert first in net.candidates.every


@pytest.mark.parametrize("task", TASKS)
def test_the_document_for_others_holds_the_same_trees(task: str) -> None:
    """Walked here as XGBoost walks them; with XGBoost itself in `make interop`."""
    net, spec = forest(task, trees=5)
    frame = rows(800)
    weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, task))])
    told = net.told(spec.task, weights)["xgboost.json"]["learner"]
    model = told["gradient_booster"]["model"]
    assert told["objective"]["name"] == OBJECTIVES[spec.task.meaning][0]
    features = spec.matrix(frame.head(100))
    made = np.zeros((100, net.said))
    for tree, output in zip(model["trees"], model["tree_info"], strict=True):
        for row in range(100):
            node = 0
            while tree["left_children"][node] >= 0:
                left = features[row, tree["split_indices"][node]] < np.float32(tree["split_conditions"][node])
                node = tree["left_children" if left else "right_children"][node]
            made[row, output] += tree["split_conditions"][node]
    assert made == pytest.approx(net.outputs(weights, features), abs=1e-5)
