"""sottovoce keys."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from server.serving.keys.keyring import ROLES, Keyring

keys = typer.Typer(help="Keys of those who may ask the endpoint. The first one closes it to everybody else.")
WORKSPACE = Annotated[Path | None, typer.Option(help="Folder of the workspace.")]


def _keyring(workspace: Path | None) -> Keyring:
    from pipeline.store.workspace import DEFAULT, Workspace

    return Keyring(Workspace.existing(workspace or DEFAULT).root / "serving" / "keys.json")


@keys.command()
def add(
    name: str,
    role: Annotated[
        list[str] | None, typer.Option(help=f"What it is for: {', '.join(ROLES)}; default: predict.")
    ] = None,
    workspace: WORKSPACE = None,
) -> None:
    """Make a key and show it, once."""
    from privacy.errors import ConfigError

    roles = tuple(known for known in ROLES if known in (role or ["predict"]))
    if unknown := sorted(set(role or []) - set(ROLES)):
        raise ConfigError(f"there is no role {unknown[0]}", remedy=f"There are {', '.join(ROLES)}.")
    typer.echo(_keyring(workspace).add(name, roles))


@keys.command("list")
def list_(workspace: WORKSPACE = None) -> None:
    """Whose keys there are. The keys themselves are kept nowhere."""
    keyring = _keyring(workspace)
    found = keyring.all()
    for key in sorted(found, key=lambda key: (key.name, key.made)):
        made = datetime.datetime.fromtimestamp(key.made, datetime.UTC).isoformat(sep=" ", timespec="minutes")
        typer.echo(f"  {key.name:20} {', '.join(key.roles):28} {key.digest[:8]}  since {made[:16]}")
    if not found and keyring.closed:
        typer.echo(f"  none left: nobody may ask. To let everybody on this machine ask, remove {keyring.path}")
    elif not found:
        typer.echo("  none: whoever reaches the endpoint may ask")


@keys.command()
def remove(
    name: str,
    old: Annotated[bool, typer.Option("--old", help="All but the newest of that name.")] = False,
    workspace: WORKSPACE = None,
) -> None:
    """Let a key in no more, from this moment on."""
    typer.echo(f"  removed {_keyring(workspace).remove(name, old)}")
