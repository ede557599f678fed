"""What a watcher remembers, and what it decided: files of the workspace, so that it goes on where it was cut off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.host.files import write_atomically
from pipeline.kinds import Frozen
from privacy.errors import StorageError
from server.watch.ramp import Ramp

What = Literal["ran", "refused", "failed", "waits", "began", "grew", "promoted", "dropped", "left"]


class State(Frozen):
    """In `WORKSPACE/watch/MODEL/state.json`. Times in seconds since 1970; 0: never."""

    pending: str = Field("", description="Name of a run that was begun and has not ended.")
    because: str = Field("", description="Why it was begun.")
    ran: float = Field(0.0, description="When the last run ended well.")
    runs: int = Field(0, description="How many were begun.")
    failures: int = Field(0, description="In a row.")
    again: float = Field(0.0, description="Nothing is tried before.")
    asked: float = Field(0.0, description="When clients were asked last whether their data changed.")
    sources: dict[str, str] = Field(default_factory=dict, description="Digest of each client's data at the last run.")
    began: float = Field(0.0, description="When a champion was seen first.")
    answered: int = Field(0, description="The champion whose decay or drift the last run was to mend.")
    unpaid: str = Field("", description="Digest of the configuration that could not be paid for.")
    unpaid_until: float = Field(0.0, description="When that is asked again.")
    ramp: Ramp | None = None
    told: str = Field("", description="The last decision that only said why nothing is done.")


class Decision(Frozen):
    """One line of `WORKSPACE/watch/MODEL/decisions.jsonl`."""

    time: float
    what: What
    why: str
    run: str = ""
    version: int | None = None


class Book:
    """The folder of both."""

    def __init__(self, root: Path, model: str) -> None:
        """root: of the workspace."""
        self.folder = root / "watch" / model

    def read(self) -> State:
        """Raises StorageError for a file that cannot be read: what was spent and why is not to be guessed."""
        path = self.folder / "state.json"
        try:
            return State.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, ValueError):
            raise StorageError(
                f"{path} cannot be read", remedy="Restore it, or remove it: the watcher begins anew then."
            ) from None

    def write(self, state: State) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self.folder / "state.json", state.model_dump_json(indent=1).encode())

    def note(self, decision: Decision) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.folder / "decisions.jsonl", "a") as file:
            file.write(decision.model_dump_json() + "\n")

    def decisions(self) -> Iterator[Decision]:
        """In their order. A line that was cut off is left out."""
        path = self.folder / "decisions.jsonl"
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    yield Decision.model_validate(json.loads(line))
                except ValueError:
                    continue


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
