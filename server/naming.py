"""Which model of which workspace a command means."""

from __future__ import annotations

from pathlib import Path

from pipeline.store.registry import Registry
from pipeline.store.workspace import DEFAULT, Workspace
from privacy.errors import NotFound


def chosen_model(workspace: Path | None, name: str | None) -> tuple[Workspace, str]:
    """The one that is named, or the only one there is. Raises NotFound; looking makes nothing."""
    space = Workspace.existing(workspace or DEFAULT)
    path = space.registry_url.removeprefix("sqlite:///")
    there = "://" in path or Path(path).exists()
    names = Registry(space.registry_url, space.models).names() if there else []
    chosen = name or (names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names:
        known = ", ".join(names) or "none"
        raise NotFound(
            f"which model? Registered in {space.root}: {known}", remedy="Name one, or train one: sottovoce simulate"
        )
    return space, chosen
