"""Lineage for other catalogues: everything once, under ids that stay, failures with their cause."""

import json
import re
from pathlib import Path

import pytest

from pipeline.store.artifacts import ArtifactStore
from pipeline.store.exchange.mlmd import tree
from pipeline.store.exchange.openlineage import events
from pipeline.store.exchange.story import Story
from pipeline.store.metadata import Metadata


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A run that made a table and failed to train on it, and one that used the table again."""
    metadata, store = Metadata(f"sqlite:///{tmp_path / 'm.db'}"), ArtifactStore(str(tmp_path / "objects"))
    table = store.put(b"table")
    first = metadata.begin_run("stay", {})
    made = metadata.begin("ingestion", "k1", {"a": 1}, "code")
    metadata.associate(first, made, cached=False)
    metadata.record(made, "OUTPUT", "snapshots", table, "Snapshots")
    metadata.record(made, "OUTPUT", "same_bytes", table, "Snapshots")
    metadata.end(made)
    failed = metadata.begin("training", "k2", {}, "code")
    metadata.associate(first, failed, cached=False)
    metadata.record(failed, "INPUT", "snapshots", table, "Snapshots")
    metadata.end(failed, "the cohort is too small")
    metadata.end_run(first, "the cohort is too small")
    second = metadata.begin_run("stay", {})
    metadata.associate(second, made, cached=True)
    newest = metadata.runs()[0]
    assert newest.id == second
    found = Story.of(metadata, [newest], store)
    metadata.close()
    return found


def test_every_run_and_execution_is_told_once_and_always_the_same(story: Story) -> None:
    told = list(events(story, "here"))
    assert told == list(events(story, "here"))
    assert [(event["eventType"], event["job"]["name"]) for event in told] == [
        ("START", "stay"),
        ("START", "stay.ingestion"),
        ("COMPLETE", "stay.ingestion"),
        ("START", "stay.training"),
        ("FAIL", "stay.training"),
        ("FAIL", "stay"),
        ("START", "stay"),
    ]
    assert {event["job"]["namespace"] for event in told} == {"here"}
    assert len({event["run"]["runId"] for event in told}) == 4
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in told if "." in event["job"]["name"]}
    assert parents == {told[0]["run"]["runId"]}
    assert told[4]["run"]["facets"]["errorMessage"]["message"] == "the cohort is too small"
    outputs = {one["name"]: one["facets"] for one in told[2]["outputs"]}
    assert set(outputs) == {"stay.snapshots", "stay.same_bytes"}
    (digest,) = story.types
    assert outputs["stay.snapshots"]["version"]["datasetVersion"] == digest
    assert Path(outputs["stay.snapshots"]["dataSource"]["uri"].removeprefix("file://")).read_bytes() == b"table"
    for facet in re.findall(r'"_schemaURL": "([^"]+)"', json.dumps(told)):
        assert re.fullmatch(r"https://openlineage\.io/spec/facets/\d-\d-\d/(\w+)\.json#/\$defs/\1", facet)


def test_ml_metadata_gets_executions_once_though_two_runs_have_them(story: Story) -> None:
    made = json.loads(json.dumps(tree(story)))
    assert [one["stage"] for one in made["executions"]] == ["ingestion", "training"]
    assert [len(run["executions"]) for run in made["runs"]] == [2, 1]
    assert len(made["artifacts"]) == 1
    assert len(made["events"]) == 3
