"""sottovoce traffic: which versions answer, and whose questions."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.store.traffic import Traffic

traffic = typer.Typer(help="Which versions answer, and whose questions. A running endpoint follows without a restart.")
WORKSPACE = Annotated[Path | None, typer.Option(help="Folder that holds the registry.")]
MODEL = Annotated[str | None, typer.Option(help="Model; default: the only one registered.")]
WAIT = 60.0
"""Seconds that an endpoint has to follow."""


@traffic.command()
def show(
    model: MODEL = None,
    workspace: WORKSPACE = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What the registry says, and what each endpoint does."""
    from pipeline.store.registry import Registry
    from server.naming import chosen_model
    from server.serving.lineup import boards
    from server.serving.status import Status

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
    _move(workspace, model, lambda now: {"shares": {"champion": 1.0}, "shadow": ()}, promote=version)


def _move(workspace: Path | None, model: str | None, change: object, promote: int | None = None) -> None:
    """Write it, then wait until every endpoint that lives has followed; say what came of it."""
    from pipeline.store.registry import Registry
    from pipeline.store.traffic import Traffic
    from privacy.errors import ConfigError, VersionRefused
    from server.naming import chosen_model

    space, name = chosen_model(workspace, model)
    registry = Registry(space.registry_url, space.models)
    try:
        now = registry.traffic(name)
    except VersionRefused:
        now = Traffic()
    try:
        wanted = Traffic.model_validate({**now.model_dump(), **change(now)})  # type: ignore[operator]
    except ValueError as error:
        cause = str(error.errors()[0]["msg"]).removeprefix("Value error, ") if hasattr(error, "errors") else str(error)
        raise ConfigError(cause, remedy="Such as: sottovoce traffic split champion=0.9 7=0.1") from None
    if promote is not None:
        registry.version(name, promote)
    registry.direct(name, wanted)
    if promote is not None:
        registry.promote(name, promote)
    _follow(space.scratch, registry, name)


def _follow(scratch: Path, registry: object, name: str) -> None:
    from privacy.errors import ServingError
    from server.serving.director import asked
    from server.serving.lineup import boards
    from server.serving.status import Status

    wanted = asked(registry, name)  # type: ignore[arg-type]
    waiting = dict(boards(scratch))
    deadline = time.monotonic() + WAIT
    while waiting and time.monotonic() < deadline:
        for pid, board in list(waiting.items()):
            status = Status.read(board.folder)
            if status is None or status.name != name or not Path(f"/proc/{pid}").exists():
                del waiting[pid]
            elif status.follows(wanted):
                typer.echo(f"  process {pid}: {status.words}")
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
        typer.echo("  written; nothing serves it now")
