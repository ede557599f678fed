"""Trees that are learned from sums: what is found, what noise does to it, and that others can load them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.models.boosted import OBJECTIVES
from pipeline.learning.models.summing import NORM
from tests.pipeline.learning.models.invented import TASKS, auc, forest, learned, rows, targets


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
