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
    space = _workspace(home, workspace)
    book = Book(space.root)

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
        f"another watcher is at {space.root}", remedy="One is enough: see what it does with sottovoce watch --log."
    )
    book.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(book.folder / "lock", busy):
        watcher = Watcher(settings, space, command, outcomes_of(space.root), say)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: watcher.stop())
        if once:
            watcher.look()
        else:
            if not as_json:
                typer.echo(f"  watching {settings.name}      Ctrl-C ends it; the next one goes on where it was")
            watcher.watch()


def _workspace(home: Path | None, workspace: Path | None) -> Workspace:
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    if home is None:
        return Workspace(workspace or DEFAULT)
    if workspace is not None:
        raise ConfigError("a coordinator's home has a workspace of its own", remedy="Leave out --workspace.")
    from server.coordinator.home import CoordinatorHome

    return Workspace(CoordinatorHome(home).workspace)


def _words(decision: Decision) -> str:
    from server.watch.state import when

    version = f"v{decision.version} " if decision.version else ""
    run = f"   run {decision.run}" if decision.run else ""
    return f"  {when(decision.time)}  {version}{decision.what}: {decision.why}{run}"


def register(app: typer.Typer) -> None:
    """Add this room's command."""
    app.command()(watch)
