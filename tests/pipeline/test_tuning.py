"""The search among settings: what may be searched, on which rows, what it finds, what it costs, and resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.engine.progress import Event, Notice, silent
from pipeline.language.changing import changed, check_space
from pipeline.language.config import Config
from pipeline.learning.features import FeatureSpec
from pipeline.learning.tasks.task import Task
from pipeline.lifecycle import Part
from pipeline.reporting.page.account import Account
from pipeline.reporting.page.page import page
from pipeline.stages import tuning as stage
from pipeline.stages.values import StatisticsReport, TuningReport
from pipeline.tuning import search as searching
from pipeline.tuning.rehearsal import _plan, _scaled, rehearse
from pipeline.tuning.rows import Examples, public, synthetic
from privacy.errors import ColumnMissing, ConfigError, ConfigUnknownKey, SourceMissing, TooFewRows
from tests.support import Federation, configured, settings, table, write_table

RATE = {"training.learning_rate": {"low": 0.01, "high": 1.0, "log": True}}
QUICK = {
    "tuning__trials": 3,
    "tuning__clients": 3,
    "tuning__rows": 1000,
    "tuning__drawn": 1500,
    "tuning__rounds": 2,
    "statistics__epsilon_share": 0.3,
}


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"privacy.epsilon": {"low": 1, "high": 3}}, "privacy.epsilon cannot be searched"),
        ({"data.holdout": {"low": 0.1, "high": 0.3}}, "data.holdout cannot be searched"),
        ({"model.kind": {"choices": ["linear", "mlp"]}}, "model.kind cannot be searched"),
        ({"training.learning_rate": {"low": 1.0, "high": 0.1}}, "low < high"),
        ({"training.learning_rate": {"low": 0.0, "high": 0.1, "log": True}}, "low above 0"),
        ({"training.learning_rate": {"choices": []}}, "an empty space"),
    ],
)
def test_what_cannot_be_searched_is_named(dataset: Path, space: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        configured(dataset, tuning__space=space)


def test_an_end_that_would_be_refused_is_refused_before_anything_starts(dataset: Path) -> None:
    config = configured(dataset, tuning__space={"training.learning_rat": {"low": 0.1, "high": 1.0}})
    with pytest.raises(ConfigUnknownKey, match=r"Did you mean training\.learning_rate"):
        check_space(config)
    config = configured(dataset, tuning__space={"training.momentum": {"low": 0.5, "high": 1.5}})
    with pytest.raises(ConfigError, match=r"training\.momentum"):
        Part(until="tuning").check(config, None)  # type: ignore[arg-type]  # before any workspace is looked at


def test_a_change_is_as_if_a_person_had_written_it(dataset: Path) -> None:
    config = configured(dataset)
    assert changed(config, {}, "x") == config
    made = changed(config, {"training.learning_rate": 0.25, "model.hidden": (4, 2)}, "x")
    assert (made.training.learning_rate, made.model.hidden) == (0.25, (4, 2))  # type: ignore[attr-defined]
    assert made.data == config.data


def report_of(config: Config, rows: int = 4000, noise: float = 0.0) -> StatisticsReport:
    """What the statistics of the table would say."""
    from pipeline.learning.queries.query import Rows

    frame = table(rows).astype(str)
    question, task = config.data.distribution(config.statistics.bins), config.data.task
    counts = question.count(Rows(task.targets(frame["died"]), frame, task.grouped(frame["died"])), np.zeros((rows, 0)))
    counts = counts + np.rint(np.random.default_rng(1).normal(0, noise, len(counts))).astype(np.int64)
    return StatisticsReport(clients=("a",), question=question, counts=tuple(counts.tolist()), noise=noise)


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_synthetic_rows_are_distributed_as_the_statistics_say(dataset: Path, noise: float) -> None:
    config = configured(dataset)
    report, spec = report_of(config, noise=noise), FeatureSpec.of(config.data)
    made = stage.examples_of(configured(dataset, tuning__drawn=20_000), report)
    truth = table(4000).astype(str)
    features, targets = spec.matrix(truth), spec.targets(truth)
    assert made.features.shape == (20_000, spec.width)
    assert abs(made.targets.mean() - targets.mean()) < 0.02
    for label in (0.0, 1.0):
        real, drawn = features[targets == label].mean(axis=0), made.features[made.targets == label].mean(axis=0)
        assert np.abs(real - drawn).max() < 0.06, "columns, given the outcome"
    assert np.isfinite(made.features).all()


def test_a_task_or_a_column_of_which_no_row_can_be_drawn_is_named(dataset: Path) -> None:
    config = configured(dataset, data__columns={"age": {"kind": "text", "buckets": 16}}, statistics__epsilon_share=0.3)
    question = config.data.distribution(16)
    draw = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="no rows can be drawn for column age"):
        synthetic(question, np.full(question.size, 50), FeatureSpec.of(config.data), 200, draw)
    value = {"kind": "regression", "column": "lab", "low": 0, "high": 12}
    spec = FeatureSpec.of(config.data).model_copy(update={"task": Task.of(value)})
    with pytest.raises(ConfigError, match="for a task of kind regression"):
        synthetic(question, np.full(question.size, 50), spec, 200, draw)
    with pytest.raises(ConfigError, match="pays for none"):
        stage.examples_of(configured(dataset), StatisticsReport())


def test_a_public_table_is_read_or_named(dataset: Path, tmp_path: Path) -> None:
    spec = FeatureSpec.of(configured(dataset).data)
    made = public(dataset, spec)
    assert len(made.targets) == len(made.features) == 1800
    table().to_parquet(tmp_path / "t.parquet")
    assert np.array_equal(public(tmp_path / "t.parquet", spec).targets, made.targets)
    with pytest.raises(SourceMissing, match="cannot be read"):
        public(tmp_path / "none.csv", spec)
    table().drop(columns="age").to_csv(tmp_path / "no_age.csv", index=False)
    with pytest.raises(ColumnMissing, match="no column age"):
        public(tmp_path / "no_age.csv", spec)
    table().assign(died="perhaps").to_csv(tmp_path / "odd.csv", index=False)
    config = configured(dataset, data__label={"column": "died", "positive": ["yes"], "negative": ["no"]})
    with pytest.raises(TooFewRows, match="have an outcome"):
        public(tmp_path / "odd.csv", FeatureSpec.of(config.data))
    with pytest.raises(ConfigError, match=r"needs tuning\.table"):
        configured(dataset, tuning__space=RATE, tuning__on="public")


def test_a_rehearsal_has_the_noise_of_the_real_federation_in_its_mean_gradient(dataset: Path) -> None:
    plan = _plan(configured(dataset, tuning__rows=10_000))
    own = _scaled(plan, 500)
    assert own.sampling_rate == plan.sampling_rate
    real, rehearsed = plan.noise_multiplier / plan.expected_batch, own.noise_multiplier / own.expected_batch
    assert rehearsed == pytest.approx(real)


def rehearsed(config: Config, examples: Examples) -> float:
    return rehearse(config, examples, lambda number, score: None).value


@pytest.mark.parametrize(
    "changes",
    [{}, {"privacy": "none"}, {"privacy": {"unit": "client", "epsilon": 50.0}}, {"training__server": {"kind": "adam"}}],
    ids=str,
)
def test_a_rehearsal_learns_what_there_is_to_learn(dataset: Path, changes: dict[str, Any]) -> None:
    config = configured(
        dataset, **{"privacy__epsilon": 8.0, **QUICK, "tuning__rounds": 6, "training__rounds": 6, **changes}
    )
    examples = public(dataset, FeatureSpec.of(config.data))
    assert rehearsed(config, examples) > 0.6, "of 0.75 that is in the table"
    shuffled = Examples(examples.features, np.random.default_rng(0).permutation(examples.targets))
    assert rehearsed(config, shuffled) < 0.6


def tuned(config: Config, folder: Path, name: str = "s", told: Any = silent) -> TuningReport:
    return stage.tuned(config, report_of(config), f"sqlite:///{folder / 'tuning.db'}", name, told)


def test_a_bad_default_is_left_and_a_good_one_is_kept(dataset: Path, tmp_path: Path) -> None:
    many = {**QUICK, "tuning__trials": 8, "tuning__rounds": None}
    bad = configured(dataset, **many, training__learning_rate=0.0005, tuning__space=RATE)
    found = tuned(bad, tmp_path)
    assert found.changes["training.learning_rate"] > 0.005
    won, first = found.trials[found.best], found.trials[0]
    assert won.score is not None
    assert first.score is not None
    assert won.score > first.score + (won.error or 0)
    flat = configured(dataset, **QUICK, tuning__space={"training.proximal": {"low": 0.0, "high": 1e-9}})
    kept = tuned(flat, tmp_path, "other")
    assert (kept.best, kept.changes) == (0, {}), "what is better by less than its error is not better"
    assert "the settings as they are" in kept.text


def test_a_search_that_was_cut_off_goes_on_after_the_last_trial(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(dataset, **QUICK, tuning__space=RATE)
    said: list[str] = []

    def cut(event: Event) -> None:
        assert isinstance(event, Notice)
        said.append(event.text)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(config, tmp_path, told=cut)
    found = tuned(config, tmp_path, told=lambda event: said.append(event.text))
    assert [text.split()[1] for text in said] == ["0", "1", "2", "3"]
    assert len(found.trials) == 4
    again = tuned(config, tmp_path, told=lambda event: said.append(event.text))
    assert again == found
    assert len(said) == 4


def test_what_learns_nothing_finite_is_pruned_and_nothing_finished_is_an_error(dataset: Path, tmp_path: Path) -> None:
    wild = configured(
        dataset,
        **QUICK,
        privacy="none",
        training__learning_rate=1e30,
        training__momentum=0.0,
        model={"kind": "linear"},
        tuning__space={"training.learning_rate": {"low": 1e29, "high": 1e31}},
    )
    found = searching.search(wild, stage.examples_of(wild, report_of(wild)), "sqlite://", "s", lambda *_: None)
    states = {trial["state"] for trial in found}
    assert states <= {"pruned", "complete"}
    with pytest.raises(ConfigError, match="no trial of the search was finished"):
        searching.best_of(wild, [{**trial, "state": "pruned"} for trial in found])


@pytest.mark.whole
def test_a_run_trains_with_what_was_found_and_charges_as_one_that_searched_nothing(tmp_path: Path) -> None:
    dataset = write_table(tmp_path)
    rounds = {"training.rounds": {"choices": [2]}}
    tree = settings(dataset, **QUICK, tuning__space=rounds)
    assert yaml.safe_load(yaml.safe_dump(tree)) == tree
    searched = Federation(tmp_path / "w", configured(dataset, **{**QUICK, "training__rounds": 1}, tuning__space=rounds))
    waiting = searched.work(Part(until="statistics"))
    assert waiting is None
    outcome = searched.run()
    assert outcome
    assert outcome.tuning
    assert {trial.values.get("training.rounds") for trial in outcome.tuning.trials} == {None, 2}
    assert len(outcome.model.rounds) == outcome.tuning.changes.get("training.rounds", 1)
    told = page(Account.of(searched.workspace, outcome.run))
    for word in ("How its settings were found", "All trials", "training.rounds", outcome.tuning.text.split(" ")[0]):
        assert word in told
    plain = Federation(tmp_path / "p", configured(dataset, **{**QUICK, "training__rounds": len(outcome.model.rounds)}))
    assert plain.run()
    names = sorted(searched.homes)
    assert [sorted(searched.charges(name)) for name in names] == [sorted(plain.charges(name)) for name in names]
    assert searched.run()
    assert [sorted(searched.charges(name)) for name in names] == [sorted(plain.charges(name)) for name in names]
