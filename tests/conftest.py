"""Fixtures shared by all rooms: one Ray for the whole session, one table, one trained workspace."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.host.environment import quiet_environment
from pipeline.language.config import Config
from tests import support

quiet_environment()

SHARED = {"engine": "processes", "deployment": "processes", "trained": "whole"}
"""Fixtures that start Ray or other processes, or that take a whole run."""
collect_ignore = ["server/serving/stock.py"]
"""Runs in a process of its own."""
STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"}
"""What the quick lane does not do, but for dividing a data set: once, for all tests."""
_alone: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make check` leaves out what is marked `processes` or `whole`."""
    for item in items:
        for fixture in set(getattr(item, "fixturenames", ())) & set(SHARED):
            item.add_marker(SHARED[fixture])
        if item.get_closest_marker("soak") or item.get_closest_marker("interop"):
            item.add_marker("processes")


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if _alone and event in STARTS and "simulations.sources" not in str(arguments[:2]):
        raise AssertionError(f"{_alone[0]} starts a process ({event}): mark it `processes`")


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def _lane(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that starts a process says so by its mark, or the quick lane would not stay quick."""
    if not any(map(request.node.get_closest_marker, ("processes", "whole"))):
        _alone.append(request.node.nodeid)
    yield
    _alone.clear()


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """Ray, started once and stopped at the end. Its workers find the tests' own classes as what is installed."""
    from pipeline.engine.cluster import ray_engine

    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ray_engine():
            yield


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return support.write_table(tmp_path_factory.mktemp("table"))


@pytest.fixture
def config(dataset: Path) -> Config:
    return support.configured(dataset)


@pytest.fixture
def federation(tmp_path: Path, config: Config) -> support.Federation:
    return support.Federation(tmp_path, config)


@dataclass(frozen=True)
class Trained:
    """A workspace in which one run was completed, and what it made."""

    config: Config
    workspace: object
    outcome: object


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One finished run over in-process clients; tests only read it."""
    from pipeline.engine.progress import silent
    from pipeline.lifecycle import run_lifecycle
    from pipeline.store.workspace import Workspace

    config = support.configured(dataset)
    workspace = Workspace(tmp_path_factory.mktemp("trained"), config.storage)
    grid = support.LocalGrid(support.homes_for(config, workspace.clients))
    return Trained(config, workspace, run_lifecycle(config, grid, workspace, silent))
