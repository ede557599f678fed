"""Data sets, partitions and the homes of simulated clients."""

import re
from pathlib import Path
from typing import Any

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


def test_no_row_is_lost_to_a_name() -> None:
    """Values that have one name in the form of a client's, and values that have none."""
    values = ["New York", "new-york", "北京", "上海", "plain", "x" * 70 + "a", "x" * 70 + "b"]
    frame = pd.DataFrame({"city": values * 3, "row": range(21)})
    parts = dict(partition(frame, SimulationConfig(dataset="x", partition_by="city")))
    assert sorted(row for part in parts.values() for row in part["row"]) == list(range(21))
    assert len(parts) == len(values)
    assert parts["plain"]["city"].unique().tolist() == ["plain"]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) for name in parts)
    numbered = pd.DataFrame({"ward": [1.0, 2.0, 1.0], "row": range(3)})
    chosen = SimulationConfig(dataset="x", partition_by="ward", partitions={"a": ("1",), "b": ("2.0",)})
    assert [len(part) for _, part in partition(numbered, chosen)] == [2, 1]


@pytest.mark.parametrize(
    ("frame", "partitions", "told"),
    [
        (pd.DataFrame({"ward": ["a", None, "b", ""]}), {}, "2 rows say nothing in ward"),
        (pd.DataFrame({"ward": ["a", "b"]}), {"one": ("a",), "two": ("c",)}, "no row has c in ward"),
    ],
)
def test_partitions_without_rows_are_named(frame: pd.DataFrame, partitions: dict[str, Any], told: str) -> None:
    config = SimulationConfig.model_validate({"dataset": "x", "partition_by": "ward", "partitions": partitions})
    with pytest.raises(ConfigError, match=told):
        list(partition(frame, config))


def test_a_simulation_reads_a_table_as_a_client_does(tmp_path: Path) -> None:
    """Each row ends with a delimiter more than the header: no column is taken for an index."""
    (tmp_path / "t.csv").write_text("age, ward,died\n34,east,yes,\n51,west,no,\n")
    read = load_dataset(str(tmp_path / "t.csv"))
    assert read.to_dict("list") == {"age": ["34", "51"], "ward": ["east", "west"], "died": ["yes", "no"]}
    (tmp_path / "odd.csv").write_text('age,ward,died\n34,east,yes\n51,west\n60,a,b,no\n61,"a,no\n')
    with pytest.raises(ConfigError, match="3 lines have not the 3 fields of the header: 3, 4, 5") as caught:
        load_dataset(str(tmp_path / "odd.csv"))
    assert "quotes" in (caught.value.remedy or "")


def test_unusable_data_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no file"):
        load_dataset(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="neither"):
        load_dataset("mnist")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(ConfigError, match="not a readable Parquet table"):
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
