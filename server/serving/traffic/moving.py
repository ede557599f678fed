"""Moving traffic: written to the registry, and followed by every endpoint before anybody is told that it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.store.registry import Registry
from pipeline.store.traffic import CHAMPION, Traffic
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, ServingError, VersionRefused
from server.serving.traffic.director import asked
from server.serving.traffic.lineup import boards
from server.serving.traffic.status import Status

WAIT = 60.0
"""Seconds that an endpoint has to follow."""


def move(
    space: Workspace, name: str, change: Callable[[Traffic], Mapping[str, object]], tell: Callable[[str], None]
) -> None:
    """Write the traffic with `change`, and wait until every endpoint that lives has followed; say what came of it.

    Raises ConfigError for what is no traffic, NotFound for a version that is none, ServingError for one that is
    refused.
    """
    registry = Registry(space.registry_url, space.models)
    try:
        now = registry.traffic(name)
    except VersionRefused:
        now = Traffic()
    try:
        wanted = Traffic.model_validate({**now.model_dump(), **change(now)})
    except ValueError as error:
        cause = str(error.errors()[0]["msg"]).removeprefix("Value error, ") if hasattr(error, "errors") else str(error)
        raise ConfigError(cause, remedy="Such as: sottovoce traffic split champion=0.9 7=0.1") from None
    registry.direct(name, wanted)
    _follow(space.scratch, registry, name, tell)


def crown(space: Workspace, name: str, version: int, tell: Callable[[str], None]) -> None:
    """Make a version champion, and have it answer everything: from the first write on, and whatever is cut off
    between the three. Raises NotFound, ServingError, VersionRefused for one that is retired."""
    registry = Registry(space.registry_url, space.models)
    registry.usable(name, version)
    move(space, name, lambda now: {"shares": {str(version): 1.0}, "shadow": ()}, lambda text: None)
    registry.promote(name, version)
    if registry.challenger(name):  # it has no share any more
        registry.challenge(name, None)
    move(space, name, lambda now: {"shares": {CHAMPION: 1.0}, "shadow": ()}, tell)


def _follow(scratch: Path, registry: Registry, name: str, tell: Callable[[str], None]) -> None:
    wanted = asked(registry, name)
    waiting = dict(boards(scratch))
    deadline = time.monotonic() + WAIT
    while waiting and time.monotonic() < deadline:
        for pid, board in list(waiting.items()):
            status = Status.read(board.folder)
            if status is None or status.name != name or not Path(f"/proc/{pid}").exists():
                del waiting[pid]
            elif status.follows(wanted):
                tell(f"  process {pid}: {status.words}")
                del waiting[pid]
            elif refused := [version for version in wanted.shares if version in status.refused]:
                why = status.refused[refused[0]]
                raise ServingError(
                    f"process {pid} goes on with what it has: version {refused[0]} refused: {why}",
                    remedy="Mend that version, or move the traffic elsewhere.",
                )
        time.sleep(0.05)
    if waiting:
        raise ServingError(
            f"process {next(iter(waiting))} has not followed within {WAIT:g} s", remedy="See its output."
        )
    if not boards(scratch):
        tell("  written; nothing serves it now")
