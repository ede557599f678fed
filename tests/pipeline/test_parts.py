"""A run in parts: one stage a process, killed and repeated, gives what one process gives."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message

from clients.home import Home
from pipeline.engine.progress import Notice
from pipeline.lifecycle import Part, lifecycle_dag
from pipeline.store.metadata import run_id
from privacy.errors import ArtifactMissing, CohortTooSmall, ConfigError, StageFailed
from tests.support import Federation, Killed, configured

pytestmark = pytest.mark.whole

STAGES = lifecycle_dag().order
RUN = run_id("nightly/2026-11-26T02:00:00+00:00")


def done(federation: Federation) -> dict[str, str]:
    """State of each stage of the run."""
    metadata = federation.workspace.metadata()
    try:
        return {execution.stage: execution.state for execution, _ in metadata.executions_of(RUN)}
    finally:
        metadata.close()


def test_a_name_is_hashed_to_an_id_and_an_id_stands_for_itself() -> None:
    assert run_id("0a1b2c3d") == "0a1b2c3d"
    assert run_id("0A1B2C3D") != run_id("0a1b2c3d")
    assert len(RUN) == 8
    assert RUN == run_id("nightly/2026-11-26T02:00:00+00:00") != run_id("nightly/2026-11-27T02:00:00+00:00")


def test_one_stage_a_process_is_one_run(federation: Federation) -> None:
    for stage in STAGES:
        outcome = federation.work(Part(RUN, stage))
        assert federation.executed == {stage}, "what the others made was found"
        assert done(federation)[stage] == "COMPLETE"
    assert outcome is not None, "the last stage ends the run"
    assert outcome.run == RUN
    assert federation.charges() == {"validate": 1, "train": 3, "evaluate": 1}
    whole = federation.run()
    assert federation.executed == {"enrolment", "blessing", "deployment"}, "the same keys, and nothing is paid again"
    assert whole.version == outcome.version
    assert federation.charges() == {"validate": 1, "train": 3, "evaluate": 1}


@pytest.mark.parametrize("order", [("registration", "blessing"), ("blessing", "registration")])
def test_any_order_that_the_graph_allows_will_do(federation: Federation, order: tuple[str, str]) -> None:
    assert federation.work(Part(RUN, "evaluation")) is None
    for stage in (*order, *order):
        federation.work(Part(RUN, stage))
    assert federation.executed == set(), "asked once more, nothing is done"
    outcome = federation.work(Part(RUN, None))
    assert federation.executed == {"deployment"}
    assert outcome
    assert outcome.deployment.promoted


def dying(federation: Federation, kind: str, at: int) -> None:
    """The process ends when a client is asked this for the `at`-th time."""
    seen: list[str] = []

    def answer(message: Message, context: Context) -> Message:
        seen.append(kind)
        if len(seen) == at:
            raise Killed
        return federation.grid.app(message, context)

    for name in federation.homes:
        federation.grid.faults[name, kind] = answer


def test_each_stage_killed_once_and_repeated_costs_nothing_more(federation: Federation) -> None:
    asked = {
        "enrolment": ("query.join", 2),
        "ingestion": ("query.ingest", 2),
        "validation": ("query.validate", 3),
        "preprocessing": ("query.preprocess", 2),
        "training": ("train", 8),
        "evaluation": ("evaluate", 3),
    }
    for stage in STAGES:
        if stage in asked:
            dying(federation, *asked[stage])
            with pytest.raises(StageFailed, match=f"stage {stage}: Killed"):
                federation.work(Part(RUN, stage))
            federation.grid.faults.clear()
            assert done(federation)[stage] == "FAILED"
        outcome = federation.work(Part(RUN, stage))
    assert outcome
    for client in federation.homes:
        assert federation.charges(client) == {"validate": 1, "train": 3, "evaluate": 1}


def shows_the_keys_of(federation: Federation, monkeypatch: pytest.MonkeyPatch, whose: dict[str, str]) -> None:
    keys = {name: Home(home).identity for name, home in federation.homes.items()}
    shown = property(lambda home: keys[whose.get(home.policy.name, home.policy.name)])
    monkeypatch.setattr(Home, "identity", shown)


def test_who_shows_other_keys_than_at_its_enrolment_is_not_asked(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path, configured(dataset))
    federation.work(Part(RUN, "ingestion"))
    shows_the_keys_of(federation, monkeypatch, {"east": "west"})
    federation.work(Part(RUN, "preprocessing"))
    assert federation.excluded["east"] == "not-the-cohort"
    assert not [kind for name, kind in federation.grid.sent if name == "east" and kind != "query.join"]


def test_a_cohort_of_strangers_is_none(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(tmp_path, configured(dataset))
    federation.work(Part(RUN, "ingestion"))
    names = sorted(federation.homes)
    shows_the_keys_of(federation, monkeypatch, dict(zip(names, [*names[1:], names[0]], strict=True)))
    with pytest.raises(
        CohortTooSmall, match=r"joining again: 0 of 6 .* \(each alike; it shows other keys than at its enrolment\)"
    ):
        federation.work(Part(RUN, "validation"))
    assert {kind for _, kind in federation.grid.sent} == {"query.join"}


def test_what_is_wrong_is_said_before_anything_runs(federation: Federation, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"no stage trainign. Did you mean training\?"):
        Part(RUN, "trainign").check(federation.config, federation.workspace)
    federation.work(Part(RUN, "ingestion"))
    changed = configured(dataset, training__seed=9)
    with pytest.raises(ConfigError, match="another configuration"):
        Part(RUN, "training").check(changed, federation.workspace)
    with pytest.raises(ConfigError, match="another configuration"):
        federation.work(Part(RUN, "training"), changed)
    assert federation.grid.sent == []
    Part(RUN, "training").check(federation.config, federation.workspace)
    Part(None, None).check(changed, federation.workspace)


def lose(federation: Federation, stage: str, name: str) -> None:
    metadata, store = federation.workspace.metadata(), federation.workspace.artifacts()
    for execution, _ in metadata.executions_of(RUN):
        if execution.stage == stage and (digest := metadata.output(execution.id, name)):
            Path(store.location(digest)).unlink()
    metadata.close()


@pytest.mark.parametrize(
    ("stage", "name"),
    [("ingestion", "snapshots"), ("validation", "validation_report"), ("registration", "model_version")],
)
def test_an_input_that_was_deleted_is_made_again_where_that_is_free(
    federation: Federation, stage: str, name: str
) -> None:
    federation.work(Part(RUN, None))
    lose(federation, stage, name)
    before = federation.charges()
    federation.work(Part(RUN, None))
    assert federation.executed == {stage}
    assert federation.charges() == before


@pytest.mark.parametrize(
    ("stage", "name"),
    [("training", "trained_model"), ("training", "weights"), ("evaluation", "evaluation_report")],
)
def test_an_input_that_was_deleted_is_not_paid_for_again_unasked(federation: Federation, stage: str, name: str) -> None:
    federation.work(Part(RUN, "evaluation"))
    lose(federation, stage, name)
    before = federation.charges()
    with pytest.raises(ArtifactMissing, match=rf"{stage} was done and charged before, .*\(epsilon 3, delta 1e-05") as e:
        federation.work(Part(RUN, None))
    assert "change a setting of that stage" in e.value.remedy
    assert federation.charges() == before


def test_the_champion_is_looked_at_and_moved_in_every_run(tmp_path: Path, dataset: Path) -> None:
    """The first configuration again: its version is there, nothing is registered twice, and the alias says what the
    report says."""
    from pipeline.store.registry import Registry

    federation = Federation(tmp_path, configured(dataset, registration__max_regression=1.0))
    other = configured(dataset, registration__max_regression=1.0, training__seed=2)
    registry = Registry(federation.workspace.registry_url, federation.workspace.models)

    def champion() -> int:
        found = registry.champion(federation.config.name)
        assert found
        return found.version

    versions = []
    for config in (federation.config, other, federation.config):
        outcome = federation.run(config)
        assert outcome.deployment.promoted
        assert champion() == outcome.deployment.version == outcome.version.version
        versions.append(outcome.version.version)
    assert versions == [1, 2, 1]
    assert len(registry.versions(federation.config.name)) == 2


def test_a_part_says_that_the_run_is_not_at_its_end(federation: Federation) -> None:
    assert federation.work(Part(RUN, "ingestion")) is None
    said: list[Any] = [event.text for event in federation.events if isinstance(event, Notice)]
    assert any(f"run {RUN} has ingestion" in text for text in said)
    metadata = federation.workspace.metadata()
    assert metadata.run(RUN).state == "WAITING"
    metadata.close()


def test_a_stage_asks_what_it_declares_and_nothing_else(dataset: Path, tmp_path: Path) -> None:
    """Its key holds the code of these handlers only."""
    federation = Federation(tmp_path, configured(dataset, statistics__epsilon_share=0.3))
    for name, stage in lifecycle_dag().stages.items():
        federation.work(Part(RUN, name))
        asked = {kind for _, kind in federation.grid.sent} - {"query.join"}
        assert asked == set(stage.asks), name
