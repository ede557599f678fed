"""Additive models: what is found in sums, what noise does to it, and what is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load

from pipeline.learning.columns.column import Column
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.graph import Graph
from pipeline.learning.models.model import Model
from pipeline.learning.models.summing import NORM, Summing
from pipeline.learning.tasks.task import Task
from tests.pipeline.learning.models.invented import COLUMNS, TASKS, auc, learned, net_of, rows, targets


def test_it_finds_bends_steps_and_pairs_that_a_linear_model_cannot() -> None:
    frame, held = rows(6000), rows(4000, seed=9)
    found = {}
    for pairs in (0, 1):
        net, spec = net_of(pairs=pairs)
        weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))])
        found[pairs] = auc(net.outputs(weights, spec.matrix(held))[:, 0], targets(held, "binary"))
        assert net.steps(weights) == net.rounds
    best = auc(held.chance.to_numpy(), targets(held, "binary"))
    assert found[1] > best - 0.02
    assert found[0] < found[1] - 0.05, "what two columns say only together"


def test_pairs_that_are_named_are_those_that_are_learned() -> None:
    frame, held = rows(6000), rows(4000, seed=9)
    scores = {}
    for pair in (("unit", "smokes"), ("age", "dose")):
        net, spec = net_of(pairs=[list(pair)])
        weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))])
        scores[pair] = auc(net.outputs(weights, spec.matrix(held))[:, 0], targets(held, "binary"))
    assert scores["unit", "smokes"] > scores["age", "dose"] + 0.05


def test_noise_shrinks_what_it_makes_doubtful() -> None:
    """Noise that drowns everything leaves hardly more than the beginning."""
    net, spec = net_of()
    frame = rows(2000)
    part = (spec.matrix(frame), targets(frame, "binary"))
    for noise, most in ((0.0, 3.0), (NORM * 1000.0, 0.3)):
        weights = learned(net, spec.task, [part], noise)
        away = net.outputs(weights, part[0])[:, 0]
        assert np.isfinite(weights).all()
        assert np.std(away) < most
    quiet = learned(net, spec.task, [part], NORM * 3.0)
    assert auc(net.outputs(quiet, part[0])[:, 0], part[1]) > 0.75


def test_columns_that_all_say_the_same_do_not_throw_it_off() -> None:
    """Each step takes the columns for independent: of ten copies the step is ten times too long, and still no longer
    than what is stable."""
    columns = {f"copy{number}": Column.of({"kind": "numeric", "low": 0, "high": 1}) for number in range(10)}
    for rare in (0.5, 0.03):
        spec = FeatureSpec(columns=columns, task=Task.of(TASKS["binary"]))
        draw = np.random.default_rng(3)
        value = draw.uniform(0, 1, 5000)
        frame = pd.DataFrame(dict.fromkeys(columns, value))
        wanted = (draw.random(5000) < 2 * rare * value).astype(np.float32)
        model = Model.of({"kind": "additive", "pairs": 0, "rounds": 60})
        net = model.net(spec.shape, 1, 0)
        assert isinstance(net, Summing)
        weights = learned(net, spec.task, [(spec.matrix(frame), wanted)])
        said = spec.task.predictions(net.outputs(weights, spec.matrix(frame)))[:, 0]
        assert abs(said.mean() - wanted.mean()) < 0.1 * wanted.mean() + 0.005
        assert abs(said[value > 0.9].mean() - wanted[value > 0.9].mean()) < 0.25 * wanted[value > 0.9].mean()


@pytest.mark.parametrize(("task", "worst"), [("squared", 0.08), ("absolute", 0.09), ("poisson", 0.09)])
def test_it_learns_numbers(task: str, worst: float) -> None:
    net, spec = net_of(task)
    frame = rows(5000)
    wanted = targets(frame, task)
    weights = learned(net, spec.task, [(spec.matrix(frame), wanted)])
    said = spec.task.predictions(net.outputs(weights, spec.matrix(frame)))[:, 0]
    assert np.abs(said - wanted).mean() < worst < np.abs(np.median(wanted) - wanted).mean()


def test_it_learns_classes() -> None:
    net, spec = net_of("classes")
    frame = rows(5000)
    wanted = targets(frame, "classes")
    weights = learned(net, spec.task, [(spec.matrix(frame), wanted)])
    right = (net.outputs(weights, spec.matrix(frame)).argmax(axis=1) == wanted).mean()
    assert right > max((wanted == one).mean() for one in range(3)) + 0.15


@pytest.mark.parametrize("way", ["rising", "falling"])
def test_an_effect_that_may_only_rise_does_so(way: str) -> None:
    net, spec = net_of(pairs=0, monotone={"age": way})
    frame = rows(3000)
    weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))], noise=NORM * 5.0)
    probe = pd.concat([frame.iloc[[0]]] * 50).assign(age=np.linspace(0, 100, 50))
    steps = np.diff(net.outputs(weights, spec.matrix(probe))[:, 0])
    assert (steps >= -1e-6).all() if way == "rising" else (steps <= 1e-6).all()
    assert np.abs(steps).max() > 0


def test_what_columns_add_makes_up_what_is_said() -> None:
    for task in ("binary", "classes"):
        net, spec = net_of(task, pairs=2)
        frame = rows(2000)
        weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, task))], noise=NORM * 2.0)
        features = spec.matrix(frame.head(200))
        added = net.contributions(weights, features)
        assert added
        assert {"(level)", *COLUMNS} < set(added)
        assert sum(added.values()) == pytest.approx(net.outputs(weights, features), abs=1e-4)


@pytest.mark.parametrize("task", ["binary", "classes"])
def test_the_graph_for_others_says_the_same(task: str) -> None:
    net, spec = net_of(task, pairs=2)
    frame = rows(2000)
    weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, task))])
    files = net.files(weights)
    features = spec.matrix(frame.head(500))
    said = Graph(files["shapes.onnx"]).outputs(features)
    assert said == pytest.approx(net.outputs(weights, features), abs=1e-5)
    again = net.from_tensors(load(files["weights.safetensors"]))
    assert np.array_equal(again, weights)


def test_the_error_that_is_told_of_an_effect_is_about_what_noise_and_chance_make_of_it() -> None:
    net, spec = net_of(pairs=0, bins=16)
    values, errors = [], []
    for seed in range(8):
        frame = rows(5000, seed)
        weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, "binary"))], NORM * 4.0, seed)
        told = net.told(spec.task, weights)["shapes.json"]
        values.append([effect["effect"][0] for effect in told["effects"]])
        errors.append([effect["error"][0] for effect in told["effects"]])
    for place in range(len(values[0])):
        found = np.std([one[place] for one in values], axis=0)
        assert 0.4 < np.median(found / np.mean([one[place] for one in errors], axis=0)) < 2.0


def test_sums_that_no_records_have_are_refused() -> None:
    net, spec = net_of()
    frame = rows(500)
    total = net.count(spec.task, net.initial(), spec.matrix(frame), targets(frame, "binary"))
    net.advance(spec.task, net.initial(), total, 1.0)
    total[0] += 100 * NORM
    with pytest.raises(ValueError, match="not those of the same records"):
        net.advance(spec.task, net.initial(), total, 1.0)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"pairs": [["age", "agee"]]}, "names agee"),
        ({"pairs": [["age", "age"]]}, "a pair is of two columns"),
        ({"pairs": -1}, "0 to 64 pairs"),
        ({"monotone": {"unit": "rising"}}, "column unit is no quantity"),
        ({"monotone": {"age": "up"}}, "monotone"),
        ({"bins": 2}, "bins"),
        ({"rounds": 3}, "rounds"),
    ],
)
def test_what_makes_no_model_is_refused_by_name(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        net_of(**tree)


def test_so_many_lost_rounds_that_no_pair_was_found_are_no_error() -> None:
    """The level is asked of records whose pairs nobody knows yet."""
    net, spec = net_of(rounds=12, pairs=2)
    frame = rows(200)
    features, wanted = spec.matrix(frame), targets(frame, "binary")
    weights = net.initial()
    for number in (1, 2, 3, 11, 12):
        total = net.count(spec.task, weights, features, wanted, number)
        assert len(total) == net.size(spec.task, net.steps(weights), number)
        weights = net.advance(spec.task, weights, total, 1.0, number)
    assert np.isfinite(net.outputs(weights, features)).all()


def test_a_moment_that_nobody_knows_is_in_no_hour() -> None:
    _, spec = net_of()
    column = spec.columns["seen"]
    moments = pd.Series(["2024-03-01T00:00:00", "2024-03-01T12:00:00", "", "soon"])
    hour = column.axes(8)[1]
    assert hour.of(column.encoded(moments)).tolist() == [0, 12, 24, 24]
    assert hour.labels[-1] == "(unknown)"
