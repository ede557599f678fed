"""Artifacts, lineage, workspace, code digests."""

import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.artifacts import ArtifactStore
from pipeline.store.metadata import Metadata
from pipeline.store.workspace import Workspace
from privacy.errors import ArtifactCorrupt, ArtifactMissing, StorageNewer, WorkspaceBusy


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_is_put_comes_back(contents: list[bytes]) -> None:
    store = ArtifactStore("memory://test")
    digests = [store.put(content) for content in contents]
    assert [store.get(digest) for digest in digests] == contents


def test_missing_and_altered_artifacts_are_named(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    digest = store.put(b"content")
    assert store.put(b"content") == digest
    Path(store.location(digest)).write_bytes(b"changed")
    with pytest.raises(ArtifactCorrupt, match=digest[:12]):
        store.get(digest)
    with pytest.raises(ArtifactMissing):
        store.get("0" * 64)


def test_lineage_leads_back_to_the_sources(tmp_path: Path) -> None:
    metadata = Metadata(f"sqlite:///{tmp_path / 'm.db'}")
    run = metadata.begin_run("test", {})
    made = metadata.begin("ingestion", "k1", {"a": 1}, "c")
    metadata.record(made, "OUTPUT", "snapshots", "d1", "snapshots")
    used = metadata.begin("training", "k2", {}, "c")
    metadata.record(used, "INPUT", "snapshots", "d1", "snapshots")
    metadata.record(used, "OUTPUT", "model", "d2", "model")
    metadata.record(used, "OUTPUT", "model", "d3", "model")
    for execution in (made, used):
        metadata.end(execution)
        metadata.associate(run, execution, cached=False)
        metadata.associate(run, execution, cached=True)
    assert [(depth, link.name, execution.stage) for depth, link, execution in metadata.ancestry("d3")] == [
        (0, "model", "training"),
        (1, "snapshots", "ingestion"),
    ]
    assert list(metadata.ancestry("d2")) == []
    assert metadata.matching("d") == [("d1", "snapshots"), ("d2", "model"), ("d3", "model")]
    assert [cached for _, cached in metadata.executions_of(run)] == [False, False]


def test_a_run_that_a_killed_process_left_is_marked(tmp_path: Path) -> None:
    metadata = Metadata(f"sqlite:///{tmp_path / 'm.db'}")
    first = metadata.begin_run("test", {})
    second = metadata.begin_run("test", {})
    metadata.end_run(second)
    states = {run.id: (run.state, run.error) for run in metadata.runs()}
    assert states == {first: ("FAILED", "the process ended before the run did"), second: ("COMPLETE", None)}


OLD = """
CREATE TABLE artifacts (digest VARCHAR(64) NOT NULL, type VARCHAR(64) NOT NULL, created FLOAT NOT NULL,
    PRIMARY KEY (digest));
CREATE TABLE executions (id VARCHAR(16) NOT NULL, stage VARCHAR(64) NOT NULL, "key" VARCHAR(64) NOT NULL,
    parameters JSON NOT NULL, code VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, error TEXT, started FLOAT NOT NULL,
    ended FLOAT, PRIMARY KEY (id));
CREATE TABLE contexts (id VARCHAR(16) NOT NULL, name VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL,
    config JSON NOT NULL, error TEXT, started FLOAT NOT NULL, ended FLOAT, PRIMARY KEY (id));
CREATE TABLE ledger_heads (client VARCHAR(63) NOT NULL, head VARCHAR(64) NOT NULL, time FLOAT NOT NULL,
    PRIMARY KEY (client));
CREATE TABLE events (id INTEGER NOT NULL, execution VARCHAR(16) NOT NULL, artifact VARCHAR(64) NOT NULL,
    direction VARCHAR(8) NOT NULL, name VARCHAR(64) NOT NULL, PRIMARY KEY (id), UNIQUE (execution, direction, name),
    FOREIGN KEY(execution) REFERENCES executions (id), FOREIGN KEY(artifact) REFERENCES artifacts (digest));
CREATE TABLE associations (context VARCHAR(16) NOT NULL, execution VARCHAR(16) NOT NULL, cached BOOLEAN NOT NULL,
    PRIMARY KEY (context, execution), FOREIGN KEY(context) REFERENCES contexts (id),
    FOREIGN KEY(execution) REFERENCES executions (id));
INSERT INTO artifacts VALUES ('aa', 'snapshots', 1.0);
INSERT INTO executions VALUES ('e1', 'ingestion', 'k1', '{"a": 1}', 'c', 'COMPLETE', NULL, 1.0, 2.0);
INSERT INTO contexts VALUES ('0a1b2c3d', 'stay', 'COMPLETE', '{"a": 1}', NULL, 1.0, 2.0);
INSERT INTO events VALUES (1, 'e1', 'aa', 'OUTPUT', 'snapshots');
INSERT INTO associations VALUES ('0a1b2c3d', 'e1', 0);
"""
"""Tables as version 0.1.0 made them."""


def test_a_workspace_of_version_0_1_is_opened_and_one_of_a_newer_version_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m.db") as db:
        db.executescript(OLD)
    metadata = Metadata(f"sqlite:///{tmp_path / 'm.db'}")
    assert [run.id for run in metadata.runs()] == ["0a1b2c3d"]
    assert [link.name for _, link, _ in metadata.ancestry("aa")] == ["snapshots"]
    assert metadata.begin_run("stay", {"a": 1}, "0a1b2c3d") == "0a1b2c3d"
    metadata.record("e1", "INPUT", "more", "bb", "more")
    metadata.close()
    with sqlite3.connect(tmp_path / "m.db") as db:
        db.execute("UPDATE formats SET format = 2")
    with pytest.raises(StorageNewer, match="format 2, which a newer version of Sottovoce wrote"):
        Metadata(f"sqlite:///{tmp_path / 'm.db'}")


def hold(root: Path, ready: "multiprocessing.synchronize.Event", go: "multiprocessing.synchronize.Event") -> None:
    with Workspace(root).locked():
        ready.set()
        go.wait(30)


@pytest.mark.processes
def test_one_run_at_a_time_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, go = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, ready, go))
    other.start()
    assert ready.wait(30)
    with pytest.raises(WorkspaceBusy, match="another run"), Workspace(tmp_path).locked():
        pass
    other.kill()
    other.join()
    with Workspace(tmp_path).locked():
        pass


@pytest.mark.processes
def test_a_registry_opened_by_three_processes_at_once_is_made_once(tmp_path: Path) -> None:
    opening = (
        "from pathlib import Path; from pipeline.store.registry import Registry; import sys; root = Path(sys.argv[1]);"
    )
    opening += "print(Registry(f'sqlite:///{root}/registry.db', root).names())"
    running = [
        subprocess.Popen([sys.executable, "-c", opening, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120) for process in running]
    assert [out.strip() for out, _ in answers] == [b"[]"] * 3, answers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry.db", "registry.db.lock"]
