"""The lineup: which versions a replica holds, and which of them answer. One file, replaced whole.

Who directs writes it; replicas look before each question whether it is another one, so that all of them change in the
same moment: the one in which the file was replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.store.registry import Registered

Inputs = Mapping[str, Mapping[str, list[int]]]
GONE = 5.0
"""Seconds without a word after which a replica is taken for gone."""


class Held(Frozen):
    """A version that is to be held ready: what a replica needs to load it, without asking the registry."""

    version: int
    folder: Path
    digests: dict[str, str]
    metrics: dict[str, float]
    errors: dict[str, float]

    @classmethod
    def of(cls, registered: Registered) -> Held:
        return cls(
            version=registered.version,
            folder=registered.folder,
            digests=dict(registered.digests),
            metrics=dict(registered.metrics),
            errors=dict(registered.errors),
        )

    def registered(self, name: str) -> Registered:
        return Registered(name, self.version, self.folder, self.digests, self.metrics, self.errors)


class Lineup(Frozen):
    """What holds from this moment on."""

    number: int
    name: str
    held: tuple[Held, ...] = ()
    shares: dict[int, float] = Field(default_factory=dict)
    """By version, as `share_of` reads them; empty: nothing answers yet."""
    shadow: tuple[int, ...] = ()
    champion: int | None = None
    """The version that `champion` stands for."""
    salt: str = ""
    problem: str = ""
    """Why something else answers than the registry says; empty: it does not."""
    stopping: bool = False


class Report(Frozen):
    """What a replica says of itself."""

    replica: str
    number: int = 0
    loaded: tuple[int, ...] = ()
    refused: dict[int, str] = Field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True)
class Board:
    """The folder in which the lineup and the reports of the replicas are. Its own, mode 0700."""

    folder: Path

    @property
    def lineup(self) -> Path:
        return self.folder / "lineup.json"

    def publish(self, lineup: Lineup) -> None:
        _replace(self.lineup, lineup.model_dump_json())

    def read(self) -> Lineup:
        return Lineup.model_validate_json(self.lineup.read_bytes())

    def stamp(self) -> tuple[int, int]:
        """Another one after each lineup that is published."""
        found = os.stat(f"{self.folder}/lineup.json")  # noqa: PTH116  # before each question: a Path costs twice that
        return found.st_ino, found.st_mtime_ns

    def report(self, report: Report, samples: list[object], inputs: Inputs | None = None) -> None:
        """samples: of what the replica measures (server.serving.gateway.measures); inputs: how the rows that it was
        asked about are distributed, by version and column (server.serving.gateway.intake)."""
        if inputs:
            _replace(self.folder / f"{report.replica}.inputs", json.dumps(inputs))
        _replace(self.folder / f"{report.replica}.report", report.model_dump_json())
        _replace(self.folder / f"{report.replica}.samples", json.dumps(samples))

    def reports(self) -> dict[str, Report]:
        """Of the replicas that live, by name."""
        found, oldest = {}, time.time() - GONE
        for path in self.folder.glob("*.report"):
            try:
                if path.stat().st_mtime >= oldest:
                    found[path.stem] = Report.model_validate_json(path.read_bytes())
            except (OSError, ValueError):  # it goes at this moment
                continue
        return found

    def inputs(self, version: int) -> list[dict[str, list[int]]]:
        """Of each replica that lives, what a version was asked about lately: counts by column."""
        found, oldest = [], time.time() - GONE
        for path in self.folder.glob("*.inputs"):
            try:
                told = json.loads(path.read_bytes()) if path.stat().st_mtime >= oldest else {}
            except (OSError, ValueError):
                continue
            if str(version) in told:
                found.append(told[str(version)])
        return found

    def samples(self, but: str) -> list[list[object]]:
        """Of all replicas that ever were, but one."""
        found = []
        for path in self.folder.glob("*.samples"):
            if path.stem != but:
                try:
                    found.append(json.loads(path.read_bytes()))
                except (OSError, ValueError):
                    continue
        return found


def boards(scratch: Path) -> Mapping[int, Board]:
    """Of the endpoints that live on a workspace, by process."""
    found = {}
    for folder in scratch.glob("serving-*"):
        pid = folder.name.removeprefix("serving-")
        if pid.isdecimal() and Path(f"/proc/{pid}").exists() and (folder / "lineup.json").exists():
            found[int(pid)] = Board(folder)
    return found


def _replace(path: Path, content: str) -> None:
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    building.write_text(content)
    os.replace(building, path)
