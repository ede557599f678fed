"""Data sets, partitions and the homes of simulated clients."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.home import Home
from pipeline.language.configfile import load_config
from pipeline.language.settings.simulation import SimulationConfig
from privacy.errors import ConfigError, SourceMissing
from simulations.cli import DEFAULT_CONFIG
from simulations.datasets import load_dataset
from simulations.homes import prepare_homes
from simulations.partition import partition
from tests.support import configured, table, write_table


def test_fars_is_the_published_table_in_seven_divisions() -> None:
    config = load_config(DEFAULT_CONFIG)
    frame = load_dataset("fars")
    assert frame.shape == (100_968, 30)
    assert frame["INJURY_SEVERITY"].isin(config.data.task.positive).mean() == pytest.approx(0.417, abs=1e-3)
    assert config.simulation
    sizes = {name: len(part) for name, part in partition(frame, config.simulation)}
    assert sum(sizes.values()) == 100_968 - frame["CASE_STATE"].isin(["Puerto_Rico", "Virgin_Islands"]).sum()
    assert (min(sizes.values()), max(sizes.values())) == (8_673, 22_775)
    declared = config.data.columns["SEX"]
    assert declared.kind == "categorical"
    assert set(frame["SEX"]) <= set(declared.categories)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(4, 300), clients=st.integers(2, 9))
def test_an_even_partition_loses_and_repeats_nothing(rows: int, clients: int) -> None:
    frame = pd.DataFrame({"id": range(rows)})
    parts = dict(partition(frame, SimulationConfig(dataset="fars", clients=clients)))
    assert len(parts) == clients
    assert sorted(value for part in parts.values() for value in part["id"]) == list(range(rows))
    assert max(map(len, parts.values())) - min(map(len, parts.values())) <= 1


def test_partitions_by_value() -> None:
    frame = table(100)
    names = [name for name, _ in partition(frame, SimulationConfig(dataset="x", partition_by="ward"))]
    assert names == sorted(frame["ward"].unique())
    for wrong, told in [
        ({"partition_by": "planet"}, "no column planet"),
        ({"partition_by": "ward", "partitions": {"a": ("east",), "b": ("east",)}}, "claimed twice: east"),
        ({"partition_by": "ward", "partitions": {"a": ("east",)}}, "at least two"),
    ]:
        with pytest.raises(ConfigError, match=told):
            list(partition(frame, SimulationConfig.model_validate({"dataset": "x", **wrong})))


def test_unusable_data_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no file"):
        load_dataset(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="neither"):
        load_dataset("mnist")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(ConfigError, match="not a readable table"):
        load_dataset(str(tmp_path / "bad.parquet"))


def test_homes_are_made_once_and_keep_keys_and_ledgers(tmp_path: Path) -> None:
    path = write_table(tmp_path / "data")
    config = configured(path)
    homes = prepare_homes(config, tmp_path / "clients")
    state = {
        name: (Home(home).identity.public, Home(home).policy.source.path.stat().st_mtime_ns)
        for name, home in homes.items()
    }
    assert prepare_homes(config, tmp_path / "clients") == homes
    assert state == {
        name: (Home(home).identity.public, Home(home).policy.source.path.stat().st_mtime_ns)
        for name, home in homes.items()
    }
    write_table(tmp_path / "data", rows=900)
    prepare_homes(configured(path, simulation__lifetime_epsilon=2.0), tmp_path / "clients")
    east = Home(homes["east"])
    assert east.identity.public == state["east"][0]
    assert east.policy.lifetime_epsilon == 2.0
    assert east.policy.source.path.stat().st_mtime_ns != state["east"][1]
    with pytest.raises(ConfigError, match="already"):
        Home.create(homes["east"], east.policy)
    assert homes["east"].stat().st_mode & 0o077 == 0


def test_parquet_sources_with_numbers_as_categories(tmp_path: Path) -> None:
    frame = table(1200)
    frame["died"] = (frame["died"] == "yes").astype(int)
    frame["unit"] = frame["unit"].map({"medical": 1.0, "surgical": 2.0, "intensive": 3.0})
    frame.to_parquet(tmp_path / "stays.parquet")
    config = configured(
        tmp_path / "stays.parquet",
        data__label={"column": "died", "positive": [1]},
        data__columns__unit={"kind": "categorical", "categories": [1, 2, 3]},
    )
    from clients.ingestion import ingest, load_snapshot
    from pipeline.language.protocol import IngestRequest

    home = Home(prepare_homes(config, tmp_path / "clients")["east"])
    snapshot = load_snapshot(home, ingest(home, IngestRequest(contract=config.data), {})[0].snapshot).frame
    assert set(snapshot["unit"]) == {"1", "2", "3"}
    assert set(snapshot["died"]) == {"0", "1"}
