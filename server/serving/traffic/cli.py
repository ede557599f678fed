"""sottovoce traffic: which versions answer, and whose questions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.store.traffic import Traffic

traffic = typer.Typer(help="Which versions answer, and whose questions. A running endpoint follows without a restart.")
WORKSPACE = Annotated[Path | None, typer.Option(help="Folder that holds the registry.")]
MODEL = Annotated[str | None, typer.Option(help="Model; default: the only one registered.")]


@traffic.command()
def show(
    model: MODEL = None,
    workspace: WORKSPACE = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What the registry says, and what each endpoint does."""
    from pipeline.store.registry import Registry
    from server.naming import chosen_model
    from server.serving.traffic.lineup import boards
    from server.serving.traffic.status import Status

    space, name = chosen_model(workspace, model)
    registry = Registry(space.registry_url, space.models)
    said, champion = registry.traffic(name), registry.champion(name)
    number = champion.version if champion else None
    living = [(pid, status) for pid, board in boards(space.scratch).items() if (status := Status.read(board.folder))]
    if as_json:
        told = {"traffic": said.model_dump(mode="json"), "champion": number}
        typer.echo(json.dumps({**told, "endpoints": [status.model_dump(mode="json") for _, status in living]}))
        return
    shares = ", ".join(f"{version} {share:.0%}" for version, share in said.shares.items())
    typer.echo(f"  {name}      champion: {f'v{number}' if number else 'none'}      traffic: {shares}")
    if said.shadow:
        typer.echo(f"  shadow     {', '.join(said.shadow)}")
    if said.live:
        typer.echo(f"  live       {', '.join(said.live)}")
    for pid, status in living:
        typer.echo(f"  process {pid}, {status.replicas} replicas: {status.words}")
    if not living:
        typer.echo("  nothing serves it now: sottovoce serve")


@traffic.command()
def split(
    shares: Annotated[list[str], typer.Argument(help="VERSION=SHARE ..., such as champion=0.9 7=0.1; together 1.")],
    anew: Annotated[bool, typer.Option("--anew", help="Draw anew who is in which share.")] = False,
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Divide the questions among versions. A subject stays with its version while its share does not shrink."""
    from privacy.errors import ConfigError

    told: dict[str, float] = {}
    for one in shares:
        version, _, share = one.partition("=")
        try:
            told[version] = float(share)
        except ValueError:
            raise ConfigError(
                f"{one!r} is no share", remedy="Write VERSION=SHARE, such as champion=0.9 7=0.1"
            ) from None
    if len(told) < len(shares):
        raise ConfigError("a version is named twice", remedy="Name each once.")

    def change(now: Traffic) -> dict[str, object]:
        salt = secrets.token_hex(16) if anew or not now.salt else now.salt
        return {"shares": told, "salt": salt}

    _move(workspace, model, change)


@traffic.command()
def shadow(
    versions: Annotated[list[str] | None, typer.Argument(help="Versions that are asked too; none: no more.")] = None,
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Ask versions whose answers nobody gets, and count how often they differ."""
    _move(workspace, model, lambda now: {"shadow": tuple(versions or ())})


@traffic.command()
def live(
    versions: Annotated[list[str] | None, typer.Argument(help="Versions to hold ready by name; none: no more.")] = None,
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Hold versions ready for whoever names them."""
    _move(workspace, model, lambda now: {"live": tuple(versions or ())})


@traffic.command()
def rollback(
    version: Annotated[int, typer.Argument(help="The version that is to be champion, and to answer everything.")],
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Make a version champion by hand, and end every split and shadow."""
    from server.naming import chosen_model
    from server.serving.traffic.moving import crown

    crown(*chosen_model(workspace, model), version, typer.echo)


def _move(workspace: Path | None, model: str | None, change: Callable[[Traffic], Mapping[str, object]]) -> None:
    from server.naming import chosen_model
    from server.serving.traffic.moving import move

    move(*chosen_model(workspace, model), change, typer.echo)
