"""Whole runs of every task and model: what is trained is better than a guess, is registered, and answers."""

import base64
import io
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from clients.home import Home
from clients.preprocessing import Split, find_features
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.net import GRAPH
from pipeline.store.registry import Registered, Registry
from server.serving.version import RowsRefused, ServedModel
from tests.support import Federation, configured

pytestmark = pytest.mark.whole

PUBLIC = {
    "privacy": "none",
    "simulation": {"clients": 4, "lifetime_epsilon": float("inf")},
    "validation": {"epsilon_share": 0.0},
    "training": {"rounds": 6, "local_epochs": 5, "expected_batch": 32, "learning_rate": 1.0},
    "registration": {},
}
WORDS = {"low": "calm rest sleep", "middle": "walk eat talk", "high": "fell broke bled"}


@lru_cache(maxsize=1)
def table() -> pd.DataFrame:
    draw = np.random.default_rng(3)
    rows = 1200
    level = draw.integers(0, 3, rows)
    x = draw.normal(level, 0.6)
    names = np.array(list(WORDS))[level]
    notes = [" ".join(draw.choice(WORDS[name].split(), 4)) for name in names]
    return pd.DataFrame(
        {
            "x": x,
            "noise": draw.normal(0, 1, rows),
            "level": names,
            "cost": np.clip(100 * level + draw.normal(50, 15, rows) + 30 * x, 0, 400),
            "visits": draw.poisson(np.exp(level - 0.5)),
            "note": notes,
            "scan": [_scan(int(shade)) for shade in 60 + 70 * level + draw.integers(-20, 20, rows)],
        }
    )


def _scan(shade: int) -> str:
    out = io.BytesIO()
    PIL.Image.new("L", (8, 8), shade).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


COLUMNS = {
    "x": {"kind": "numeric", "low": -3, "high": 5},
    "noise": {"kind": "numeric", "low": -4, "high": 4},
}
CLASSES = {"kind": "classes", "column": "level", "classes": ["low", "middle", "high"]}


def federation(folder: Path, task: dict[str, Any], columns: dict[str, Any] | None = None, **changes: Any) -> Federation:
    path = folder / "table.parquet"
    table().to_parquet(path)
    data = {"task": task, "columns": columns or COLUMNS, "min_rows": 50}
    settings = {**PUBLIC, "simulation": {**PUBLIC["simulation"], "dataset": str(path)}, "data": data}  # type: ignore[dict-item]
    return Federation(folder / "workspace", configured(path, **{**settings, **changes}))


def champion(run: Federation) -> Registered:
    found = Registry(run.workspace.registry_url, run.workspace.models).champion(run.config.name)
    assert found
    return found


def pooled(run: Federation) -> tuple[Split, Split]:
    """Training and held-out rows of all clients together."""
    parts = []
    for root in run.homes.values():
        home = Home(root)
        name = next(root.glob("snapshots/*/features/*")).name
        found = find_features(home, name, FeatureSpec.of(run.config.data), 0.2)
        parts.append((found.split("training", 0.2), found.split("held-out", 0.2)))
    return tuple(  # type: ignore[return-value]
        replace(
            splits[0],
            features=np.concatenate([split.features for split in splits]),
            targets=np.concatenate([split.targets for split in splits]),
        )
        for splits in zip(*parts, strict=True)
    )


def test_three_classes(tmp_path: Path) -> None:
    run = federation(tmp_path, CLASSES, model={"kind": "linear"})
    metrics = run.run().evaluation.metrics
    assert metrics["accuracy"] > 0.55, "the best that x can is 0.7"
    assert metrics["macro_roc_auc"] > 0.75
    assert sum(metrics[f"confusion[{a}, {b}]"] for a in WORDS for b in WORDS) == pytest.approx(240, abs=60)
    served = ServedModel.load(champion(run))
    low, high = served.predict([{"x": -1.0, "noise": 0}, {"x": 3.0, "noise": None}])
    assert (low["class"], high["class"]) == ("low", "high")
    assert sum(low["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_a_regression_within_five_per_cent_of_pooled_ridge(tmp_path: Path, loss: str) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.metrics import root_mean_squared_error

    task = {"kind": "regression", "column": "cost", "low": 0, "high": 400, "loss": loss}
    changes = {"rounds": 10, "learning_rate": 0.5 if loss == "squared" else 0.05}
    run = federation(tmp_path, task, model={"kind": "linear"}, training={**PUBLIC["training"], **changes})  # type: ignore[dict-item]
    metrics = run.run().evaluation.metrics
    training, held_out = pooled(run)
    ridge = Ridge().fit(training.features, training.targets)
    best = 400 * root_mean_squared_error(held_out.targets, ridge.predict(held_out.features))
    assert metrics["rmse"] < 1.05 * best
    assert metrics["r2"] > 0.6
    (answer,) = ServedModel.load(champion(run)).predict([{"x": 1.0, "noise": 0.0}])
    low, high = answer["interval"]
    assert low < answer["value"] < high
    assert high - low == pytest.approx(2 * metrics["interval"], rel=1e-4)


def test_counts_by_a_poisson_loss(tmp_path: Path) -> None:
    task = {"kind": "regression", "column": "visits", "low": 0, "high": 20, "loss": "poisson"}
    changes = {"rounds": 8, "learning_rate": 0.5}
    run = federation(tmp_path, task, model={"kind": "linear"}, training={**PUBLIC["training"], **changes})  # type: ignore[dict-item]
    metrics = run.run().evaluation.metrics
    assert metrics["r2"] > 0.1
    assert metrics["mae"] < 2.5


def test_prose_by_embedded_words(tmp_path: Path) -> None:
    columns = {"note": {"kind": "tokens", "length": 6, "buckets": 64}, "noise": COLUMNS["noise"]}
    run = federation(tmp_path, CLASSES, columns, model={"kind": "text", "width": 4})
    assert run.run().evaluation.metrics["accuracy"] > 0.85
    version = champion(run)
    assert GRAPH in version.digests
    said = ServedModel.load(version).predict(
        [{"note": "He fell, broke and bled.", "noise": 0.1}, {"note": "", "noise": 0.1}]
    )
    assert said[0]["class"] == "high"


def test_images_by_convolutions_under_privacy(tmp_path: Path) -> None:
    columns = {"scan": {"kind": "image", "size": [8, 8]}, "x": COLUMNS["x"]}
    run = federation(
        tmp_path,
        CLASSES,
        columns,
        model={"kind": "conv", "channels": [4], "groups": 2, "hidden": [8]},
        privacy={"unit": "record", "epsilon": 8.0},
        training={"rounds": 5, "local_epochs": 4, "expected_batch": 64, "learning_rate": 0.5},
    )
    outcome = run.run()
    assert outcome.evaluation.metrics["accuracy"] > 0.65
    assert outcome.evaluation.noise > 1024, "whole numbers in units of a record's count"
    assert all(spent and spent <= 8 for spent in outcome.evaluation.spent.values())
    release = Home(next(iter(run.homes.values()))).ledger.rows()[-2].releases[0]
    assert release.mechanism == "gaussian"
    served = ServedModel.load(champion(run))
    (answer,) = served.predict([{"scan": _scan(200), "x": 2.0}])
    assert set(answer["probabilities"]) == set(WORDS)
    with pytest.raises(RowsRefused, match="row 0, column scan: expected an image in base64, or null"):
        served.predict([{"scan": "no image", "x": 2.0}])


@pytest.mark.parametrize("kind", ["tests.own.nets:Small", "tests.own.nets:Adapted"])
def test_a_model_of_one_s_own(tmp_path: Path, kind: str) -> None:
    run = federation(
        tmp_path,
        {"kind": "binary", "column": "level", "positive": ["high"]},
        model={"kind": kind},
        training={"rounds": 4, "local_epochs": 4, "expected_batch": 64, "learning_rate": 1.0, "proximal": 0.01},
        privacy={"unit": "record", "epsilon": 50.0},
    )
    outcome = run.run()
    assert outcome.evaluation.metrics["roc_auc"] > 0.65
    assert outcome.model.parameters < 700, "of the backbone nothing travels"
    assert kind.rpartition(":")[2] in str(champion(run).read("model.json"))
    run.run()
    assert run.executed == {"enrolment", "blessing", "deployment"}


@pytest.mark.parametrize("server", [{"kind": "momentum", "beta": 0.5}, {"kind": "adam", "learning_rate": 0.5}])
def test_clients_apply_the_mean_alike(tmp_path: Path, server: dict[str, Any]) -> None:
    """The revealed model is vouched for by a quorum: they would disagree if one of them stepped otherwise."""
    run = federation(tmp_path, CLASSES, model={"kind": "linear"}, training={**PUBLIC["training"], "server": server})  # type: ignore[dict-item]
    outcome = run.run()
    assert outcome.model.unconfirmed == ()
    assert outcome.evaluation.metrics["accuracy"] > (0.5 if server["kind"] == "momentum" else 0.2)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"kind": "classes", "column": "level", "classes": ["low", "middle"]}, "level"),
        ({"kind": "regression", "column": "cost", "low": 200, "high": 300}, "cost"),
    ],
)
def test_outcomes_that_nobody_declared_exclude_their_client(tmp_path: Path, task: dict[str, Any], told: str) -> None:
    from privacy.errors import CohortTooSmall

    run = federation(tmp_path, task, validation={"epsilon_share": 0.3})
    with pytest.raises(CohortTooSmall, match=f"validation-failed.*{told}|{told}"):
        run.run()
    assert set(run.excluded.values()) == {"validation-failed"}
    assert "train" not in run.charges("client-0")


def test_persons_are_protected_with_all_their_records(tmp_path: Path) -> None:
    frame = table().assign(person=[str(row % 400) for row in range(len(table()))])
    simulation = {"dataset": str(tmp_path / "persons.parquet"), "partition_by": "ward", "lifetime_epsilon": 40.0}
    frame.assign(ward=[f"w{int(person) % 4}" for person in frame["person"]]).to_parquet(tmp_path / "persons.parquet")
    changes: dict[str, Any] = {
        "model": {"kind": "linear"},
        "privacy": {"unit": "subject", "epsilon": 20.0},
        "validation": {"epsilon_share": 0.1, "minority_share": 0.0},
    }
    run = federation(tmp_path, CLASSES, simulation={**simulation, "key": ["person"]}, **changes)
    outcome = run.run()
    counted = sum(outcome.evaluation.metrics[f"confusion[{a}, {b}]"] for a in WORDS for b in WORDS)
    assert counted == pytest.approx(80, abs=35), "one record of each of a fifth of the persons"
    home = Home(next(iter(run.homes.values())))
    assert home.policy.subjects == 100
    units = {release.unit for row in home.ledger.rows() for release in row.releases}
    assert units == {"subject"}
    assert "every subject: epsilon 20" in outcome.version.privacy.text
    places = [
        find_features(home, p.name, FeatureSpec.of(run.config.data), 0.2)
        for p in home.root.glob("snapshots/*/features/*")
    ]
    training, held_out = places[0].split("training", 0.2), places[0].split("held-out", 0.2)
    assert len(training.persons) + len(held_out.persons) == 100, "nobody is in both"
    assert training.persons.sum() == len(training.features)


def test_a_source_without_a_key_protects_no_persons(tmp_path: Path) -> None:
    from privacy.errors import CohortTooSmall

    run = federation(tmp_path, CLASSES, model={"kind": "linear"}, privacy={"unit": "subject", "epsilon": 20.0})
    with pytest.raises(CohortTooSmall, match="names no persons"):
        run.run()
    assert all(not run.charges(name) for name in run.homes)
