"""The director over a real registry, with replicas that load real versions: what answers, whatever it does."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic
from server.serving.traffic.director import Director, asked, directed
from server.serving.traffic.lineup import Board, Report
from server.serving.traffic.shelf import Shelf
from server.serving.traffic.status import Status
from tests.conftest import Trained


class Follower:
    """What a replica does about lineups, in a thread."""

    def __init__(self, board: Board, name: str) -> None:
        self.shelf, self.board, self.name = Shelf(board), board, name
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self) -> None:
        while not self.stop.wait(0.01):
            if self.board.lineup.exists() and self.shelf.look():
                self.shelf.load()
            stopped = self.shelf.lineup.stopping
            self.board.report(
                Report(replica=self.name, number=self.shelf.loaded_for, refused=self.shelf.refused, stopped=stopped),
                [],
            )


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    """Three versions, all blessed; the second is champion."""
    workspace: Any = trained.workspace
    source = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert source
    made = Registry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "models")
    files = {path.name: path.read_bytes() for path in source.folder.iterdir()}
    for number in (1, 2, 3):
        made.register("stay", {**files, "note.json": str(number).encode()}, source.metrics, {})
        made.note("stay", number, {"blessed": "true"})
    made.promote("stay", 2)
    return made


Start = Callable[[], Director]


@pytest.fixture
def start(registry: Registry, tmp_path: Path) -> Iterator[Start]:
    """A director with two replicas."""
    board = directed(tmp_path / f"serving-{os.getpid()}")
    director = Director(registry, "stay", board, 0.02)
    followers: list[Follower] = []

    def started() -> Director:
        director.begin()
        followers.extend(Follower(board, name) for name in ("one", "two"))
        while len(board.reports()) < 2:
            time.sleep(0.01)
        director.start()
        return director

    yield started
    director.stop()
    for follower in followers:
        follower.stop.set()
        follower.thread.join()


def until(director: Director, true: Callable[[Status], bool]) -> Status:
    deadline = time.monotonic() + 20
    while True:
        told = Status.read(director.board.folder)
        if told and true(told):
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


def alter(registry: Registry, version: int) -> Callable[[], object]:
    weights = registry.version("stay", version).folder / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4] + b"\0\0\0\1")
    return lambda: weights.write_bytes(kept)


def test_a_champion_that_is_broken_at_the_start_is_stood_in_for(registry: Registry, start: Start) -> None:
    restore = alter(registry, 2)
    director = start()
    told = until(director, lambda told: bool(told.shares))
    assert told.shares == {3: 1.0}, "the newest blessed one"
    assert "version 2 refused" in told.problem
    assert "altered" in told.words
    assert str(registry.models) not in told.words
    restore()
    assert until(director, lambda told: told.shares == {2: 1.0}).problem == ""


def test_a_broken_share_leaves_the_traffic_as_it_was(registry: Registry, start: Start) -> None:
    director = start()
    alter(registry, 3)
    registry.direct("stay", Traffic(shares={"champion": 0.5, "3": 0.5}))
    told = until(director, lambda told: "version 3 refused" in told.problem)
    assert told.shares == {2: 1.0}
    assert not told.follows(asked(registry, "stay"))
    registry.direct("stay", Traffic(live=("1",), salt="x"))
    told = until(director, lambda told: told.held == (1, 2))
    assert told.follows(asked(registry, "stay"))
    assert not told.follows(asked(registry, "stay").model_copy(update={"salt": "y"}))
    registry.direct("stay", Traffic(shares={"champion": 0.5, "1": 0.5}))
    assert until(director, lambda told: told.shares == {2: 0.5, 1: 0.5}).problem == ""


def test_a_shadow_that_is_broken_moves_nothing(registry: Registry, start: Start) -> None:
    director = start()
    alter(registry, 3)
    registry.direct("stay", Traffic(shadow=("3",)))
    told = until(director, lambda told: 3 in told.refused)
    assert (told.shares, told.problem) == ({2: 1.0}, "")
    assert "version 3 refused" in told.words
    registry.promote("stay", 1)
    until(director, lambda told: told.shares == {1: 1.0})


def test_a_registry_that_is_away_locked_corrupt_or_restored(registry: Registry, start: Start) -> None:
    director = start()
    until(director, lambda told: told.shares == {2: 1.0})
    path = Path(registry.url.removeprefix("sqlite:///"))
    copy = path.with_name("copy.db")
    shutil.copyfile(path, copy)
    path.unlink()
    told = until(director, lambda told: bool(told.problem))
    assert (told.problem, told.shares) == ("the registry is away", {2: 1.0})
    assert not path.exists(), "looking makes none"
    path.write_bytes(os.urandom(4096))
    told = until(director, lambda told: "cannot be read" in told.problem or "does not answer" in told.problem)
    assert told.shares == {2: 1.0}
    shutil.copyfile(copy, path.with_name("new.db"))
    path.with_name("new.db").replace(path)
    until(director, lambda told: not told.problem)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE registered_model_aliases SET version = 3 WHERE alias = 'champion'")
    database.close()
    until(director, lambda told: told.shares == {3: 1.0})
    shutil.copyfile(copy, path.with_name("new.db"))
    path.with_name("new.db").replace(path)
    until(director, lambda told: told.shares == {2: 1.0})


def test_it_ends_when_every_replica_has(registry: Registry, start: Start) -> None:
    director = start()
    director.stop()
    assert all(report.stopped for report in director.board.reports().values())
    assert director.champion == 2
