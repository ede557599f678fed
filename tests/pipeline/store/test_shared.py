"""A registry that others use too, and folders that URLs cannot name."""

from pathlib import Path

import pytest

from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, NotFound


@pytest.mark.whole  # MLflow starts a process to find out where it is
def test_what_others_registered_is_left_alone(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "models")
    first = registry.register("stay", {"a": b"1"}, {"roc_auc": 0.8}, {})
    client = registry._client()
    client.create_model_version("stay", source=str(tmp_path), run_id=None)
    with_run = client.create_run("0")
    client.create_model_version("stay", source=str(tmp_path), run_id=with_run.info.run_id)
    assert [one.version for one in registry.versions("stay")] == [first.version]
    assert registry.register("stay", {"a": b"2"}, {"roc_auc": 0.9}, {}).version == 4
    for number in (2, 3):
        with pytest.raises(NotFound, match="registered by another tool"):
            registry.version("stay", number)
        with pytest.raises(NotFound):
            registry.direct("stay", Traffic(shares={str(number): 1.0}))
    client.set_registered_model_alias("stay", "champion", "2")
    assert registry.champion("stay") is None


@pytest.mark.parametrize("name", ["q?x", "a%20b", "x::y", "a#b"])
def test_a_folder_that_stores_could_not_be_named_by_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="means something else"):
        Workspace(tmp_path / name / "w")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.whole
@pytest.mark.parametrize("name", ["with space", "umläut", "a+b", "x:y", "a&b=c"])
def test_other_names_are_names(tmp_path: Path, name: str) -> None:
    space = Workspace(tmp_path / name)
    space.metadata().close()
    digest = space.artifacts().put(b"content")
    assert space.artifacts().get(digest) == b"content"
    Registry(space.registry_url, space.models).register("stay", {"a": b"1"}, {}, {})
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(ConfigError, match="cannot be made"):
            Workspace(tmp_path / place)
