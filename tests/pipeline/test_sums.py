"""Models that are learned from sums, through the whole lifecycle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from pydantic import ValidationError

from clients.execution import ExecutionState
from clients.home import Home
from clients.preprocessing import find_features
from pipeline.language.config import Config
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import TrainRequest
from pipeline.learning.models.summing import Summing
from pipeline.reporting.page.page import write_page
from pipeline.store.registry import Registry
from privacy.accounting import epsilon_of
from privacy.errors import CohortTooSmall, ConfigError, StageFailed
from server.serving.version import RowsRefused, ServedModel
from tests.support import Federation, Killed, configured

pytestmark = pytest.mark.whole


ADDITIVE = {"kind": "additive", "rounds": 8, "bins": 8, "pairs": 1, "cells": 3}


SHARED = {"unit": "record", "epsilon": 3.0, "delta": 1e-5, "noise": "shared"}


def added(dataset: Path, **changes: Any) -> Config:
    return configured(dataset, **{"model": ADDITIVE, "privacy": SHARED, **changes})


def reserved(federation: Federation, client: str = "east") -> list[Any]:
    return [row for row in Home(federation.homes[client]).ledger.rows() if row.kind == "reserve"]


def test_every_sum_is_charged_and_all_of_them_cost_the_epsilon(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset))
    outcome = federation.run()
    assert federation.charges() == {"validate": 1, "train": 8, "evaluate": 1}
    charged = [row.releases[0] for row in reserved(federation) if "/train/" in row.id]
    assert {(release.mechanism, release.unit, release.count) for release in charged} == {("gaussian", "record", 1)}
    (evaluated,) = [row.releases[0].mechanism for row in reserved(federation) if "/evaluate/" in row.id]
    assert evaluated == "gaussian", "a count of many levels with noise as fine as they are costs what a Gaussian does"
    checks = [row.releases[0] for row in reserved(federation) if "validate/" in row.id]
    assert 2.97 <= epsilon_of([*charged, *checks], 1e-5) <= 3.0
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6] * 8
    assert "share the noise of training and evaluation" in outcome.version.privacy.text
    assert federation.run().version.version == outcome.version.version
    assert not {"training", "evaluation"} & federation.executed, "unchanged, nothing is asked again"


def test_a_version_says_what_each_column_adds(tmp_path: Path, dataset: Path) -> None:
    """At the endpoint for a row, and in the report as plots; both from what was registered."""
    federation = Federation(tmp_path, added(dataset, privacy={**SHARED, "epsilon": 15.0}))
    outcome = federation.run()
    workspace = federation.workspace
    (version,) = Registry(workspace.registry_url, workspace.models).versions("stay")
    served = ServedModel.load(version)
    rows = [{"age": 90, "lab": 11, "unit": "intensive"}, {"age": None, "lab": 1, "unit": "new wing"}]
    said = served.said(rows, explained=True)
    assert said.added
    assert set(said.added[0]) >= {"(level)", "age", "lab", "unit"}
    for answer, each in zip(said.answers, said.added, strict=True):
        logit = sum(float(np.sum(value)) for value in each.values())
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(answer["probability"], abs=1e-5)
    old, little = float(np.sum(said.added[0]["age"])), float(np.sum(said.added[1]["lab"]))
    assert old > 0 > little, "older is worse, and so is more"
    assert served.said(rows).added is None

    told = json.loads(version.read("shapes.json"))
    assert [effect["columns"] for effect in told["effects"]][:3] == [["age"], ["lab"], ["unit"]]
    for effect in told["effects"]:
        flat, counts = np.array(effect["effect"][0]).ravel(), np.maximum(np.array(effect["records"]).ravel(), 0)
        assert abs((flat * counts).sum()) < 1e-3 * counts.sum(), "zero is the mean"
        assert (np.array(effect["error"]) > 0).all()
    page = write_page(workspace, outcome.run).read_text()
    assert "What it has learned" in page
    assert page.count("<svg") > 6


TREES = {"kind": "trees", "trees": 3, "depth": 2, "bins": 8}


@pytest.mark.parametrize("model", [ADDITIVE, TREES, {**TREES, "splits": "random"}])
def test_without_privacy_the_federation_learns_what_pooled_rows_would(
    tmp_path: Path, dataset: Path, model: dict[str, Any]
) -> None:
    changes = {"model": model, "privacy": "none", "simulation__lifetime_epsilon": float("inf")}
    federation = Federation(tmp_path, added(dataset, **changes))
    outcome = federation.run()
    config, store = federation.config, federation.workspace.artifacts()
    weights = np.frombuffer(store.get(outcome.model.weights), dtype="<f4")
    spec, net = _net(config)
    features, targets = [], []
    for home in map(Home, federation.homes.values()):
        (made,) = home.root.glob("snapshots/*/features/*")
        split = find_features(home, made.name, spec, config.data.holdout).split("training", config.data.holdout)
        features.append(split.features)
        targets.append(split.targets)
    pooled = net.initial()
    for _ in range(net.rounds):
        total = net.count(spec.task, pooled, np.concatenate(features), np.concatenate(targets))
        pooled = net.advance(spec.task, pooled, total, 0.0)
    assert np.array_equal(weights, pooled), "to the last bit"


def test_trees_are_charged_by_the_sum_too(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset, model={**TREES, "splits": "random"}))
    outcome = federation.run()
    assert federation.charges()["train"] == 4, "one for where the records lie, one a tree"
    (version,) = Registry(federation.workspace.registry_url, federation.workspace.models).versions("stay")
    assert "xgboost.json" in version.digests
    served = ServedModel.load(version)
    assert 0 <= served.predict([{"age": 90, "lab": 11, "unit": "intensive"}])[0]["probability"] <= 1
    with pytest.raises(RowsRefused, match="no additive model"):
        served.said([{"age": 90, "lab": 11, "unit": "intensive"}], explained=True)
    assert outcome.evaluation.clients


def _net(config: Config) -> tuple[Any, Summing]:
    from pipeline.learning.features import FeatureSpec

    spec = FeatureSpec.of(config.data)
    net = config.model.net(spec.shape, spec.task.outputs, 0)
    assert isinstance(net, Summing)
    return spec, net


@pytest.mark.parametrize("unit", ["client", "record"])
def test_it_learns_where_whole_clients_are_protected_too(tmp_path: Path, dataset: Path, unit: str) -> None:
    """At an epsilon that nobody should choose: what six clients can afford is noise."""
    privacy = {"unit": unit, "epsilon": 2000.0 if unit == "client" else 8.0, "delta": 1e-5}
    config = added(dataset, privacy=privacy, simulation__lifetime_epsilon=float("inf"))
    outcome = Federation(tmp_path, config).run()
    assert outcome.evaluation.metrics["roc_auc"] > 0.65


def test_persons_add_one_record_to_each_sum(tmp_path: Path, dataset: Path) -> None:
    config = added(dataset, privacy={**SHARED, "unit": "subject"}, simulation__key=["shoe_size", "age"])
    federation = Federation(tmp_path, config)
    federation.run()
    assert {release.unit for row in reserved(federation) for release in row.releases} == {"subject"}


def test_a_killed_client_loses_that_sum_and_the_order_goes_on(tmp_path: Path, dataset: Path) -> None:
    """What the next sum is for follows from how many were summed, not from how many were tried."""
    federation = Federation(tmp_path, added(dataset))
    calls: list[int] = []

    def silent_once(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return None if len(calls) == 3 else federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = silent_once
    outcome = federation.run()
    sizes = [len(clients) for clients in outcome.model.rounds.values()]
    assert sizes == [6, 6, 0, 6, 6, 6, 6, 6], "with a share of the noise nothing is sealed twice"
    assert federation.charges("east")["train"] == 8
    _, net = _net(federation.config)
    weights = np.frombuffer(federation.workspace.artifacts().get(outcome.model.weights), dtype="<f4")
    assert net.steps(weights) == 7


@pytest.mark.parametrize("privacy", ["none", {**SHARED, "noise": "own"}])
def test_a_round_that_is_lost_is_not_answered_from_what_it_left(tmp_path: Path, dataset: Path, privacy: Any) -> None:
    """No sum was applied, so the next round starts where the lost one did; it is another one all the same."""
    config = added(dataset, privacy=privacy, federation__min_cohort=6, simulation__lifetime_epsilon=float("inf"))
    federation = Federation(tmp_path, config)
    lost: list[int] = []
    real = ExecutionState.store

    def dies(self: ExecutionState, key: str, *arguments: Any) -> None:
        if key.startswith("train-2-") and self.home.policy.name == "north" and not lost:
            lost.append(1)
            raise Killed
        real(self, key, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ExecutionState, "store", dies)
        with pytest.raises((Killed, StageFailed)):
            federation.run()
        outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 0, 6, 6, 6, 6, 6, 6]
    assert federation.charges("east")["train"] == 8


def test_a_run_killed_in_the_middle_goes_on_and_charges_once(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset))
    calls: list[int] = []

    def killed(message: Message, context: Context) -> Message | None:
        calls.append(1)
        if len(calls) == 5:
            raise Killed
        return federation.grid.app(message, context)

    federation.grid.faults[("west", "train")] = killed
    with pytest.raises((Killed, StageFailed)):
        federation.run()
    del federation.grid.faults[("west", "train")]
    outcome = federation.run()
    assert federation.charges("east")["train"] == 8
    assert sum(bool(clients) for clients in outcome.model.rounds.values()) >= 7


def test_it_begins_with_nothing_or_the_client_refuses(tmp_path: Path, dataset: Path) -> None:
    """Numbers of the coordinator's own would choose what is asked of each record."""
    federation = Federation(tmp_path, added(dataset))

    def begun(message: Message, context: Context) -> Message | None:
        request, blobs = unpack(TrainRequest, message.content)
        blobs = {**blobs, "initial": np.full(len(blobs["initial"]) // 4, 0.5, dtype="<f4").tobytes()}
        again = Message(pack(request, blobs), message.metadata.dst_node_id, message.metadata.message_type)
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    for name in federation.homes:
        federation.grid.faults[(name, "train")] = begun
    with pytest.raises(CohortTooSmall, match="begins with nothing"):
        federation.run()
    assert "train" not in federation.charges()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": {**SHARED, "colluders": 4}}, "leaves nobody honest"),
        ({"encryption__scheme": "none"}, "noise shared divides the noise among the clients"),
        ({"tuning__space": {"training.learning_rate": {"low": 0.1, "high": 1}}}, "needs no tuning"),
        ({"audit__enabled": True}, "an audit attacks local steps"),
        ({"model": {**ADDITIVE, "pairs": [["age", "weight"]]}}, "names weight"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(dataset: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=said):
        added(dataset, **changes)
