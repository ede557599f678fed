"""Versions as a person looks at them, compares them, and takes one out of use."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, NotFound, VersionRefused
from server.models_cli import models
from server.serving.traffic.director import asked

pytestmark = pytest.mark.whole


def files(epsilon: float, clients: dict[str, str], width: int = 8) -> dict[str, bytes]:
    told: dict[str, Any] = {
        "metrics.json": {"metrics": {"roc_auc": 0.8}},
        "privacy.json": {"text": f"every record: epsilon {epsilon:g}; summed", "epsilon": epsilon, "lines": []},
        "model.json": {"kind": "mlp", "hidden": [width]},
        "lineage.json": {"features": clients, "rounds": {"1": list(clients), "2": []}},
    }
    return {name: json.dumps(tree).encode() for name, tree in told.items()}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """Three versions: one without `west`, whose data came later; the second is champion, the third not blessed."""
    made = Workspace(tmp_path / "w")
    registry = Registry(made.registry_url, made.models)
    errors = {"roc_auc": 0.01}
    registry.register("stay", files(1, {"east": "aa11"}), {"roc_auc": 0.80}, {}, errors)
    registry.register("stay", files(3, {"east": "aa11", "west": "bb22"}), {"roc_auc": 0.85}, {}, errors)
    registry.register("stay", files(3, {"east": "cc33", "west": "bb22"}, 16), {"roc_auc": 0.70}, {}, errors)
    for version in (1, 2):
        registry.note("stay", version, {"blessed": "true", "reasons": ""})
    registry.note("stay", 3, {"blessed": "false", "reasons": "roc_auc is worse"})
    registry.promote("stay", 2)
    return made


def registry_of(space: Workspace) -> Registry:
    return Registry(space.registry_url, space.models)


def run(space: Workspace, *arguments: str) -> str:
    done = CliRunner().invoke(models, [*arguments, "--workspace", str(space.root)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_list_says_place_headline_and_promise(space: Workspace) -> None:
    third, second, first = run(space, "list").splitlines()
    assert "v3" in third
    assert "not blessed: roc_auc is worse" in third
    assert "v2" in second
    assert "roc_auc 0.8500 +- 0.0100" in second
    assert "epsilon 3" in second
    assert "champion" in second
    assert first.rstrip().endswith("blessed")
    told = [json.loads(line) for line in run(space, "list", "--json").splitlines()]
    assert [(one["version"], one["place"]) for one in told] == [(3, ""), (2, "champion"), (1, "")]


def test_one_is_shown_with_whose_data_is_in_it(space: Workspace) -> None:
    shown = run(space, "show", "2")
    assert "stay v2   champion" in shown
    assert "west                     features bb22   in 1 of 2 rounds" in shown
    assert json.loads(run(space, "show", "2", "--json"))["lineage"]["features"]["west"] == "bb22"
    with pytest.raises(NotFound, match="stay has no version 9"):
        run(space, "show", "9")


def test_a_difference_is_held_against_its_error(space: Workspace) -> None:
    told = run(space, "diff", "1", "2")
    assert "+0.0500 +- 0.0141  beyond its error" in told
    assert "privacy.epsilon" in told
    assert "model.hidden" not in told
    assert "model.hidden" in run(space, "diff", "2", "3")
    assert json.loads(run(space, "diff", "1", "1", "--json"))["settings"] == {}


def test_withdrawn_data_names_the_versions_that_have_it(space: Workspace) -> None:
    told = [json.loads(line)["version"] for line in run(space, "using", "west", "--json").splitlines()]
    assert told == [3, 2]
    assert "v1" in run(space, "using", "east", "--features", "aa")
    assert "v3" not in run(space, "using", "east", "--features", "aa")
    assert "no version of stay has data of south" in run(space, "using", "south")


def test_what_was_not_blessed_is_promoted_only_anyway(space: Workspace) -> None:
    with pytest.raises(VersionRefused, match="not blessed: roc_auc is worse"):
        run(space, "promote", "3")
    assert "stay v3 is champion" in run(space, "promote", "3", "--anyway")
    champion = registry_of(space).champion("stay")
    assert champion
    assert champion.version == 3


def test_a_retired_version_answers_nobody_and_does_not_come_back(space: Workspace) -> None:
    registry = registry_of(space)
    registry.direct("stay", Traffic(shares={"champion": 0.6, "1": 0.4}, live=("1", "3"), salt="s"))
    registry.challenge("stay", 1)
    assert "stay v1 is retired" in run(space, "retire", "1", "data  withdrawn")
    traffic = registry.traffic("stay")
    assert (traffic.shares, traffic.live, traffic.salt) == ({"champion": 1.0}, ("3",), "s")
    assert [held.version for held in asked(registry, "stay").held] == [2, 3]
    assert registry.challenger("stay") is None
    assert "retired: data withdrawn" in run(space, "list")
    for change in (("promote", "1"), ("promote", "1", "--anyway")):
        with pytest.raises(VersionRefused, match="is retired: data withdrawn"):
            run(space, *change)
    with pytest.raises(VersionRefused, match="is retired"):
        registry.direct("stay", Traffic(shares={"champion": 0.5, "1": 0.5}))
    with pytest.raises(ConfigError, match="version 2 of stay is champion"):
        run(space, "retire", "2", "why")
    with pytest.raises(ConfigError, match="an empty reason"):
        run(space, "retire", "3", " ")


def test_a_version_whose_files_were_altered_is_listed_all_the_same(space: Workspace) -> None:
    found = registry_of(space).version("stay", 3)
    (found.folder / "privacy.json").write_text("{}")
    (found.folder / "metrics.json").unlink()
    assert "roc_auc 0.7000" in run(space, "show", "3")
    assert len(run(space, "list").splitlines()) == 3
