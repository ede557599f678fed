"""sottovoce watch."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.store.workspace import Workspace
    from server.watch.state import Decision


def watch(
    config: Annotated[Path, typer.Argument(help="Configuration of the runs.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    home: Annotated[
        Path | None, typer.Option(help="The coordinator's home: runs over its clients. Without it: simulated runs.")
    ] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of simulated runs.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One look, then end: for a scheduler.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Print what was decided so far, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run the pipeline when it is time, when clients' data changed, or when the champion does worse than it did; have
    each new version earn its place. Every client's budget is asked before."""
    from pipeline.host.environment import quiet_environment
    from pipeline.host.locking import locked
    from pipeline.language.configfile import load_config
    from privacy.errors import WorkspaceBusy
    from server.evidence.place import outcomes_of
    from server.watch.running import Command
    from server.watch.state import Book
    from server.watch.watcher import Watcher

    quiet_environment()
    settings = load_config(config, overrides or [])
    space = _workspace(home, workspace, make=not log)
    book = Book(space.root, settings.name)

    def say(decision: Decision) -> None:
        typer.echo(decision.model_dump_json() if as_json else _words(decision))

    if log:
        for decision in book.decisions():
            say(decision)
        if (told := book.read().told) and not as_json:
            typer.echo(f"  now: {told}")
        return
    changes = [part for override in overrides or [] for part in ("--set", override)]
    place = ["--home", str(home)] if home else ["--workspace", str(space.root)]
    command = Command(["run" if home else "simulate", str(config), *changes, *place])
    busy = WorkspaceBusy(
        f"another watcher of {settings.name} is at {space.root}",
        remedy="One is enough: see what it does with sottovoce watch --log.",
    )
    book.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(book.folder / "lock", busy):
        watcher = Watcher(settings, space, command, outcomes_of(space.root, settings.name), say)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: watcher.stop())
        if once:
            watcher.look()
        else:
            if not as_json:
                typer.echo(f"  watching {settings.name}      Ctrl-C ends it; the next one goes on where it was")
            watcher.watch()


def _workspace(home: Path | None, workspace: Path | None, make: bool) -> Workspace:
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    if home is None:
        return Workspace(workspace or DEFAULT) if make else Workspace.existing(workspace or DEFAULT)
    if workspace is not None:
        raise ConfigError("a coordinator's home has a workspace of its own", remedy="Leave out --workspace.")
    from server.coordinator.home import CoordinatorHome

    return Workspace(CoordinatorHome(home).workspace)


def _words(decision: Decision) -> str:
    from server.watch.state import when

    version = f"v{decision.version} " if decision.version else ""
    run = f"   run {decision.run}" if decision.run else ""
    return f"  {when(decision.time)}  {version}{decision.what}: {decision.why}{run}"


def ramp(
    version: Annotated[int, typer.Argument(help="The version that has to earn its place.")],
    model: Annotated[str | None, typer.Option(help="Model; default: the only one registered.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder that holds the registry.")] = None,
) -> None:
    """Have a version earn traffic step by step, as `watch.ramp` of the watcher's configuration says.

    It is promoted when outcomes show that it is better, and rolled back when it does harm.
    """
    from pipeline.host.locking import is_locked
    from pipeline.store.registry import Registry
    from privacy.errors import ConfigError
    from server.naming import chosen_model
    from server.watch.state import Book

    space, name = chosen_model(workspace, model)
    registry = Registry(space.registry_url, space.models)
    registry.version(name, version)
    champion, other = registry.champion(name), registry.challenger(name)
    if champion and champion.version == version:
        raise ConfigError(f"version {version} is champion already", remedy="Name another one.")
    if other and other.version != version:
        raise ConfigError(
            f"version {other.version} is challenger now",
            remedy=f"Wait until it is decided, or end it: sottovoce traffic rollback {champion.version}"
            if champion
            else "Wait until it is decided.",
        )
    registry.note(name, version, {"dropped": ""})
    registry.challenge(name, version)
    watched = is_locked(Book(space.root, name).folder / "lock")
    typer.echo(
        f"  v{version} is challenger: "
        + ("the watcher gives it traffic" if watched else "it gets traffic when a watcher runs: sottovoce watch CONFIG")
    )


def register(app: typer.Typer) -> None:
    """Add this room's command, and what it makes possible with traffic."""
    from server.serving.traffic.cli import traffic

    app.command()(watch)
    traffic.command()(ramp)
