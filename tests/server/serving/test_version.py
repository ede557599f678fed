"""A served version: verified when loaded, strict about rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from pipeline.store.registry import Registered, Registry
from privacy.errors import NotFound, VersionRefused
from server.serving.version import RowsRefused, ServedModel
from tests.conftest import Trained
from tests.support import Federation, configured, table

ROW = {"age": 70, "lab": 6.5, "unit": "intensive"}


@pytest.fixture
def registered(trained: Trained) -> Registered:
    workspace: Any = trained.workspace
    found = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert found
    return found


def test_it_ranks_risk_and_says_what_it_is(registered: Registered) -> None:
    served = ServedModel.load(registered)
    low, high = (
        said["probability"]
        for said in served.predict(
            [{"age": 20, "lab": 1, "unit": "medical"}, {"age": 95, "lab": 12, "unit": "intensive"}]
        )
    )
    assert 0 <= low < high <= 1
    assert served.description["privacy"]["epsilon"] == 3.0
    assert served.description["schema"]["required"] == ["age", "lab", "unit"]


def test_unknown_values_are_allowed_and_unknown_columns_are_not(registered: Registered) -> None:
    served = ServedModel.load(registered)
    assert len(served.predict([{"age": None, "lab": None, "unit": None}, {**ROW, "unit": "new wing"}])) == 2
    for wrong, told in [
        ({**ROW, "x": 1}, "row 0: no such column: x"),
        ({"age": 1}, "row 0: missing column: lab, unit"),
        ({**ROW, "age": "old"}, "row 0, column age: expected a number"),
        ({**ROW, "age": True}, "row 0, column age: expected a number"),
        ({**ROW, "age": float("inf")}, "row 0, column age: expected a number"),
        ({**ROW, "unit": 3}, "row 0, column unit: expected text"),
    ]:
        with pytest.raises(RowsRefused, match=told):
            served.predict([wrong])


def test_an_altered_or_missing_file_is_refused(registered: Registered, tmp_path: Any) -> None:
    import shutil

    copy = replace(registered, folder=tmp_path / "copy")
    shutil.copytree(registered.folder, copy.folder)
    weights = copy.folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(VersionRefused, match=r"weights\.safetensors was altered"):
        ServedModel.load(copy)
    weights.unlink()
    with pytest.raises(VersionRefused, match="missing"):
        ServedModel.load(copy)


def test_versions_are_immutable_and_aliases_move(trained: Trained, tmp_path: Any) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'r.db'}", tmp_path / "models")
    assert registry.champion("m") is None
    one = registry.register("m", {"a.json": b"1"}, {"roc_auc": 0.5}, {"t": "x"})
    assert registry.register("m", {"a.json": b"1"}, {"roc_auc": 0.5}, {"t": "x"}).version == one.version
    two = registry.register("m", {"a.json": b"2"}, {"roc_auc": 0.6}, {"t": "x"})
    assert [version.version for version in registry.versions("m")] == [2, 1]
    registry.promote("m", 2)
    champion = registry.champion("m")
    assert champion
    assert (champion.version, json.loads(champion.read("a.json")), champion.metrics) == (2, 2, {"roc_auc": 0.6})
    registry.promote("m", 1)
    assert registry.champion("m") == one
    assert two.folder != one.folder
    with pytest.raises(NotFound, match="no version 9"):
        registry.promote("m", 9)
    assert registry.names() == ["m"]


@pytest.mark.whole
def test_columns_of_every_kind_go_from_a_table_to_an_answer(tmp_path: Path) -> None:
    rows = table()
    days = pd.to_timedelta(np.random.default_rng(1).integers(0, 365, len(rows)), unit="D")
    rows["admitted"] = (pd.Timestamp("2001-01-01T08:00:00") + days).strftime("%Y-%m-%dT%H:%M:%S")
    rows["smoker"] = np.where(
        rows["died"] == "yes", "True", np.random.default_rng(2).choice(["True", "False"], len(rows))
    )
    rows.to_csv(tmp_path / "t.csv", index=False)
    time = {"kind": "time", "earliest": "2001-01-01", "latest": "2001-12-31", "zone": "Europe/Zurich"}
    columns = {
        "data__columns__admitted": {**time, "parts": ["weekday", "month"]},
        "data__columns__smoker": {"kind": "boolean"},
    }
    federation = Federation(tmp_path / "w", configured(tmp_path / "t.csv", **columns))
    outcome = federation.run()
    checks = {(check.check, check.column) for check in outcome.validation.outcomes["east"]}
    assert {("bounds", "admitted"), ("categories", "smoker"), ("leakage", "smoker")} <= checks
    assert {check.status for check in outcome.validation.outcomes["east"]} == {"ok"}
    registered = Registry(federation.workspace.registry_url, federation.workspace.models).champion("stay")
    assert registered
    served = ServedModel.load(registered)
    row = federation.config.data.example()
    assert row["smoker"] is False
    jsonschema.validate(row, served.description["schema"])
    (plain,) = served.predict([row])
    (other,) = served.predict([{**row, "smoker": True, "admitted": "2001-07-04"}])
    assert plain != other
    with pytest.raises(RowsRefused, match="row 0, column admitted: expected a time as ISO 8601"):
        served.predict([{**row, "admitted": "yesterday"}])
    with pytest.raises(RowsRefused, match="row 0, column smoker: expected true, false or null"):
        served.predict([{**row, "smoker": "yes"}])
