"""Models that are learned from sums: what a record adds, that only the sum decides, and what is found in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import roc_auc_score

from pipeline.learning.columns.column import Column
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.binned import grouped, risen, smoothed
from pipeline.learning.models.graph import Graph
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Weights
from pipeline.learning.models.ordering import stage_of
from pipeline.learning.models.summing import NORM, Summing
from pipeline.learning.tasks.task import Task

COLUMNS: dict[str, Any] = {
    "age": {"kind": "numeric", "low": 0, "high": 100},
    "dose": {"kind": "numeric", "low": 0, "high": 1, "unknown": [-1]},
    "unit": {"kind": "categorical", "categories": ["a", "b", "c", "d"]},
    "smokes": {"kind": "boolean"},
    "seen": {"kind": "time", "earliest": "2024-01-01", "latest": "2024-12-31", "zone": "UTC", "parts": ["hour"]},
}
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary", "column": "y", "positive": ["1"]},
    "classes": {"kind": "classes", "column": "y", "classes": ["0", "1", "2"]},
    "squared": {"kind": "regression", "column": "y", "low": 0, "high": 1},
    "absolute": {"kind": "regression", "column": "y", "low": 0, "high": 1, "loss": "absolute"},
    "poisson": {"kind": "regression", "column": "y", "low": 0, "high": 1, "loss": "poisson"},
}


def spec_of(task: str = "binary") -> FeatureSpec:
    return FeatureSpec(columns={name: Column.of(tree) for name, tree in COLUMNS.items()}, task=Task.of(TASKS[task]))


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    """An effect that is a bend, one that is a step, and one that two columns have only together."""
    draw = np.random.default_rng(seed)
    age, dose = draw.uniform(0, 100, count), draw.uniform(0, 1, count)
    unit, smokes = draw.choice(list("abcd"), count), draw.choice(["True", "False"], count)
    together = np.where((unit == "b") == (smokes == "True"), 1.2, -1.2)
    logit = -1 + 3 * (age / 100 - 0.5) ** 2 * 4 + np.where(dose > 0.5, 1.0, -0.5) + together
    moments = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 8000, count), unit="h")
    return pd.DataFrame(
        {
            "age": age,
            "dose": np.where(draw.random(count) < 0.1, -1, dose),
            "unit": unit,
            "smokes": smokes,
            "seen": moments.astype(str),
            "chance": 1 / (1 + np.exp(-logit)),
            "drawn": draw.random(count),
        }
    )


def targets(frame: pd.DataFrame, task: str) -> Weights:
    if task == "binary":
        return (frame.drawn < frame.chance).to_numpy(dtype=np.float32)
    if task == "classes":
        return np.floor(3 * (0.7 * frame.chance + 0.3 * frame.drawn)).to_numpy(dtype=np.float32)
    return (0.8 * frame.chance + 0.2 * frame.drawn).to_numpy(dtype=np.float32)


def net_of(task: str = "binary", **changes: Any) -> tuple[Summing, FeatureSpec]:
    spec = spec_of(task)
    model = Model.of({"kind": "additive", **changes})
    model.fits(spec.shape)
    net = model.net(spec.shape, spec.task.outputs, 0)
    assert isinstance(net, Summing)
    return net, spec


def learned(
    net: Summing, task: Task, parts: list[tuple[Weights, Weights]], noise: float = 0.0, seed: int = 1
) -> Weights:
    """After all rounds over the parts, with that much noise in each sum."""
    draw, weights = np.random.default_rng(seed), net.initial()
    for step in range(net.rounds):
        total = sum(net.count(task, weights, *part) for part in parts)
        assert len(total) == net.size(task, step)
        total = total + np.rint(draw.normal(0, noise, len(total))).astype(np.int64)
        weights = net.advance(task, weights, total, noise)
    return weights


@pytest.mark.parametrize("task", TASKS)
def test_only_the_sum_decides_however_the_rows_are_divided(task: str) -> None:
    net, spec = net_of(task, rounds=12, bins=8)
    frame = rows(600)
    features, wanted = spec.matrix(frame), targets(frame, task)
    cut = [slice(0, 50), slice(50, 51), slice(51, 400), slice(400, 600), slice(600, 600)]
    whole = learned(net, spec.task, [(features, wanted)])
    assert np.array_equal(whole, learned(net, spec.task, [(features[part], wanted[part]) for part in cut]))


@pytest.mark.parametrize("task", TASKS)
def test_no_record_adds_more_than_the_norm_in_any_round(task: str) -> None:
    net, spec = net_of(task, rounds=12, bins=8)
    frame, draw = rows(300), np.random.default_rng(2)
    features, wanted = spec.matrix(frame), targets(frame, task)
    weights = net.initial()
    for step in range(net.rounds):
        for row in draw.choice(300, 25, replace=False):
            one = net.count(spec.task, weights, features[row : row + 1], wanted[row : row + 1])
            assert np.linalg.norm(one) <= NORM, net.stage(step)  # type: ignore[attr-defined]
        total = net.count(spec.task, weights, features, wanted)
        weights = net.advance(spec.task, weights, total * 50, 0.0)  # whatever the sums lead to


@pytest.mark.parametrize("task", TASKS)
def test_a_poisoned_sum_makes_no_record_stand_out(task: str) -> None:
    """Whoever may add anything to a sum could make a bin infinite, and learn from an error that somebody is in it."""
    net, spec = net_of(task, rounds=12, bins=8)
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


def test_a_record_without_an_outcome_adds_nothing() -> None:
    net, spec = net_of(rounds=10)
    features = spec.matrix(rows(5))
    assert not net.count(spec.task, net.initial(), features, np.full(5, np.nan, dtype=np.float32)).any()


def auc(scores: Weights, wanted: Weights) -> float:
    return float(roc_auc_score(wanted, scores))


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


def test_a_column_without_bins_is_refused() -> None:
    columns = {"note": Column.of({"kind": "text"})}
    with pytest.raises(ValueError, match="column note has no bins"):
        Model.of({"kind": "additive"}).fits(FeatureSpec(columns=columns, task=Task.of(TASKS["binary"])).shape)


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
