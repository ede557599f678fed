"""Checks of the data: what warns, what fails, and that only outcomes leave."""

from pathlib import Path

import pandas as pd
import pytest

from clients.home import Home
from clients.ingestion import ingest
from clients.validation import validate
from pipeline.config import Config
from pipeline.protocol import IngestRequest, ValidateRequest
from tests.support import configured, homes_for


@pytest.fixture
def home(config: Config, tmp_path: Path) -> Home:
    return Home(homes_for(config, tmp_path / "clients")["east"])


def outcomes(home: Home, config: Config, frame: pd.DataFrame) -> dict[tuple[str, str | None], str]:
    frame.to_parquet(home.policy.source)
    snapshot = ingest(home, IngestRequest(contract=config.data), {})[0].snapshot
    request = ValidateRequest(contract=config.data, checks=config.validation, snapshot=snapshot)
    reply, blobs = validate(home, request, {})
    assert blobs == {}
    return {(outcome.check, outcome.column): outcome.status for outcome in reply.outcomes if outcome.status != "ok"}


def source(home: Home) -> pd.DataFrame:
    return pd.read_parquet(home.policy.source)


def test_good_data_has_nothing_to_say(home: Home, config: Config) -> None:
    assert outcomes(home, config, source(home).drop_duplicates(["age", "lab", "unit", "died"])) == {}


def test_each_fault_has_its_check(home: Home, config: Config) -> None:
    frame = source(home)
    some, most = frame.index[:1], frame.index[:100]

    def changed(column: str, rows: pd.Index, value: object) -> dict[tuple[str, str | None], str]:
        other = frame.copy()
        other.loc[rows, column] = value
        return outcomes(home, config, other)

    assert changed("age", some, "200")[("bounds", "age")] == "warn"
    assert changed("age", most, "200")[("bounds", "age")] == "fail"
    assert changed("age", most, "not a number")[("bounds", "age")] == "fail"
    assert changed("unit", some, "garden")[("categories", "unit")] == "warn"
    assert changed("unit", most, "garden")[("categories", "unit")] == "fail"
    assert changed("died", frame.index, "no") == {("label-balance", "died"): "fail"} | {
        key: status for key, status in changed("died", frame.index, "no").items() if key[0] == "duplicates"
    }
    assert changed("died", frame.index[5:], "no")[("label-balance", "died")] == "warn"
    assert outcomes(home, config, pd.concat([frame, frame]))[("duplicates", None)] == "warn"


def test_a_column_that_tells_the_label_fails(home: Home, dataset: Path) -> None:
    leaking = {"discharge": {"kind": "categorical", "categories": ["home", "morgue"]}}
    contract = configured(dataset, data__columns=leaking, data__forbidden={})
    assert outcomes(home, contract, source(home)) == {
        ("leakage", "discharge"): "fail",
        ("duplicates", None): "warn",
    }
    numeric = {"shoe_size": {"kind": "numeric", "low": 0, "high": 100}}
    frame = source(home)
    frame["shoe_size"] = (frame["died"] == "yes").map({True: "10", False: "20"})
    contract = configured(dataset, data__columns=numeric)
    assert outcomes(home, contract, frame)[("leakage", "shoe_size")] == "fail"


def test_numbers_stay_in_the_client_s_own_log(home: Home, config: Config) -> None:
    outcomes(home, config, source(home))
    assert "label-balance" in (home.root / "client.log").read_text()
