"""Statistics over all clients: what they cost, how far off they are, and what is fitted to them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clients.home import Home
from clients.ingestion import PLACE, load_snapshot
from pipeline.language.config import Config
from pipeline.learning.columns.numeric import Numeric
from pipeline.lifecycle import Part
from pipeline.stages.values import FeatureSet, StatisticsReport
from pipeline.store.registry import Registry
from privacy.accounting import epsilon_of
from privacy.errors import ConfigError
from privacy.population import Population
from server.evidence.drift import reference_of
from tests.support import Federation, configured

pytestmark = pytest.mark.whole

ASKED: dict[str, Any] = {"statistics": {"epsilon_share": 0.4, "bins": 32}, "data__columns__age__scale": "quantile"}


def statistics_of(federation: Federation, until: str = "statistics") -> StatisticsReport:
    federation.work(Part(until=until))
    return StatisticsReport.model_validate_json(made(federation, "statistics", "statistics_report"))


def made(federation: Federation, stage: str, name: str) -> bytes:
    """What a stage made in the last run."""
    metadata, store = federation.workspace.metadata(), federation.workspace.artifacts()
    try:
        executions = [one for one, _ in metadata.executions_of(metadata.runs()[0].id) if one.stage == stage]
        digest = metadata.output(executions[-1].id, name)
    finally:
        metadata.close()
    assert digest
    return store.get(digest)


def exact(federation: Federation, config: Config) -> pd.DataFrame:
    """The training rows of all clients."""
    frames = []
    for root in federation.homes.values():
        home = Home(root)
        (folder,) = (root / "snapshots").glob("*/data.parquet")
        frame = load_snapshot(home, folder.parent.name).frame
        frames.append(frame[frame[PLACE] >= config.data.holdout])
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def asking(dataset: Path, tmp_path: Path) -> Federation:
    return Federation(tmp_path, configured(dataset, **ASKED))


@pytest.mark.parametrize("unit", ["none", "record", "client"])
def test_sums_are_those_of_pooled_training_rows(dataset: Path, tmp_path: Path, unit: str) -> None:
    """Without noise to the last count; with it, within the noise that is told."""
    privacy = "none" if unit == "none" else {"unit": unit, "epsilon": 8.0}
    config = configured(dataset, **ASKED, privacy=privacy, simulation__lifetime_epsilon=float("inf"))
    federation = Federation(tmp_path, config)
    report = statistics_of(federation)
    frame = exact(federation, config)
    assert report.question
    tables = report.question.tables(np.array(report.counts))
    groups, off = config.data.task.grouped(frame["died"]), list[int]()
    for name, column in config.data.columns.items():
        table = np.zeros_like(tables[name])
        np.add.at(table, (groups, column.binned(frame[name], 32)), 1)
        if unit == "none":
            assert np.array_equal(table, tables[name]), name
        off += (tables[name] - table).reshape(-1).tolist()
    if unit == "record":
        assert np.std(off) == pytest.approx(report.noise, rel=0.3)
    if unit == "none":
        measured = report.measured()
        assert measured["rows"].value == pytest.approx(len(frame))
        assert measured["mean[age]"].value == pytest.approx(frame["age"].mean(), abs=measured["mean[age]"].error)
    charged = federation.charges()
    assert charged["statistics"] == 1


def test_what_is_told_is_within_its_error(asking: Federation) -> None:
    """One draw of the noise, which all figures share: how often they are within two errors is counted over a hundred
    draws in tests/pipeline/learning/queries/test_statistics.py."""
    report, config = statistics_of(asking), asking.config
    frame, measured = exact(asking, config), report.measured()
    known = frame[frame["lab"] != -1]
    truth = {"rows": float(len(frame))}
    for name, values in (("age", frame["age"].clip(18, 95)), ("lab", known["lab"].clip(0, 12))):
        inside = values.dropna()
        truth |= {f"mean[{name}]": inside.mean(), f"deviation[{name}]": inside.std()}
        truth |= {f"{metric}[{name}]": inside.quantile(level) for metric, level in (("p25", 0.25), ("median", 0.5))}
    for unit, share in frame["unit"].value_counts(normalize=True).items():
        truth[f"share[unit={unit}]"] = share
    truth["share[died=yes]"] = float((frame["died"] == "yes").mean())
    off = {name: abs(measured[name].value - value) / measured[name].error for name, value in truth.items()}
    assert np.median(list(off.values())) < 3, off
    assert max(off.values()) < 10, off
    assert all(found.error > 0 for found in measured.values())


def test_statistics_are_one_line_of_the_budget(asking: Federation) -> None:
    asking.run()
    assert asking.config.privacy != "none"
    epsilon = asking.config.privacy.epsilon
    for root in asking.homes.values():
        ledger = Home(root).ledger
        (row,) = (row for row in ledger.rows() if row.kind == "reserve" and "/statistics/" in row.id)
        assert row.population == Population(0.2, 1.0, row.population.basis)
        assert epsilon_of(row.releases, 1e-5) == pytest.approx(0.4 * epsilon, rel=0.01)
        assert 0.98 * epsilon <= ledger.spent() <= epsilon
    again = asking.run()
    assert asking.executed == {"enrolment", "blessing", "deployment"}, "an answer that was paid for is not asked again"
    assert again.version.privacy.lines[1].purpose == "statistics"


def test_edges_that_nobody_declared_are_fitted_and_travel_with_the_version(dataset: Path, tmp_path: Path) -> None:
    config = configured(dataset, **ASKED, privacy="none", simulation__lifetime_epsilon=float("inf"))
    asking = Federation(tmp_path, config)
    report = statistics_of(asking, until="preprocessing")
    spec = FeatureSet.model_validate_json(made(asking, "preprocessing", "feature_set")).spec
    age = spec.columns["age"]
    assert isinstance(age, Numeric)
    assert not age.unfitted
    assert spec.columns["lab"] == asking.config.data.columns["lab"]
    frame = exact(asking, asking.config)
    even = age.encoded(frame["age"])[:, 0]
    assert np.abs(np.quantile(even, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.12
    assert report.fitted(spec) == spec, "what is declared, or was fitted, stays"


def test_what_was_paid_for_travels_with_the_version_so_that_drift_can_be_told(asking: Federation) -> None:
    asking.run()
    registered = Registry(asking.workspace.registry_url, asking.workspace.models).version("stay", 1)
    found = reference_of(registered)
    assert found == StatisticsReport.model_validate_json(made(asking, "statistics", "statistics_report"))


def test_a_run_that_does_not_pay_for_edges_is_told_so(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="column age: scale quantile needs edges"):
        configured(dataset, data__columns__age__scale="quantile")
    declared = configured(
        dataset, data__columns__age={"kind": "numeric", "low": 0, "high": 9, "scale": "quantile", "edges": [0, 3, 9]}
    )
    assert declared.statistics.epsilon_share == 0


def test_nobody_asks_where_nothing_is_paid(federation: Federation) -> None:
    assert statistics_of(federation) == StatisticsReport()
    assert "statistics" not in federation.charges()
    assert not [action for _, action in federation.grid.sent if "statistics" in action]
