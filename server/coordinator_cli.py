"""sottovoce server and sottovoce run: the operator's commands."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's home.")]
HomeOption = Annotated[Path, typer.Option("--home", help="The coordinator's home.")]
DEFAULT = Path("sottovoce-server")


def init(
    home: HomeArgument = DEFAULT,
    name: Annotated[str, typer.Option(help="Name of the federation.")] = "federation",
    host: Annotated[str, typer.Option(help="Address to listen on; loopback by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the gateway: the only one clients need.")] = 9443,
    link_port: Annotated[int, typer.Option(help="Port of the SuperLink, on loopback.")] = 9444,
    address: Annotated[
        list[str] | None, typer.Option(help="Host name or address clients reach you by; repeat it for several.")
    ] = None,
) -> None:
    """Make a home: a certificate authority, certificates, an empty roster."""
    from pipeline.configfile import parse
    from server.home import CoordinatorHome, ServerSettings

    known = [*(address or []), "localhost", "127.0.0.1"]
    tree = {"name": name, "host": host, "port": port, "link_port": link_port, "addresses": list(dict.fromkeys(known))}
    CoordinatorHome.create(home, parse(ServerSettings, tree, "the options"))
    typer.echo(f"  Your certificate   {home / 'ca.crt'}   give it to every client, over a way you trust")
    typer.echo(f"  Keep safe          {home / 'ca.key'}   whoever has it can pose as you")
    typer.echo(f"  Admit clients      sottovoce server roster add CARD{_at(home)}")
    typer.echo(f"  Next               sottovoce server start {home}")


def start(home: HomeArgument = DEFAULT) -> None:
    """Coordinate until Ctrl-C or SIGTERM."""
    from server.coordinator import Coordinator
    from server.home import CoordinatorHome

    found = CoordinatorHome(home)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    settings = found.settings
    Coordinator(found).run(
        stopped,
        ready=lambda: _say(f"{settings.name} is open at {settings.host}:{settings.port}      Ctrl-C closes it"),
        say=_say,
    )
    _say("stopped: runs in progress go on by themselves when it is started again")


def renew(home: HomeArgument = DEFAULT) -> None:
    """New certificates from the same authority. Clients notice nothing; start the coordinator again."""
    from server.home import CoordinatorHome

    CoordinatorHome(home).renew()
    typer.echo("  renewed: start the coordinator again")


def add(
    card: Annotated[Path, typer.Argument(help="The client's card.json.")],
    fingerprint: Annotated[str | None, typer.Option(help="What the owner read to you; asked for if missing.")] = None,
    home: HomeOption = DEFAULT,
) -> None:
    """Admit a client, if the fingerprint its owner reads to you is that of the card."""
    from pipeline.card import ClientCard
    from privacy.errors import KeyMismatch
    from server.home import CoordinatorHome
    from server.roster import Roster, tell_superlink

    found, shown = CoordinatorHome(home), ClientCard.read(card)
    heard = fingerprint or typer.prompt(f"  Fingerprint of {shown.name}, as its owner reads it to you")
    if "".join(heard.split()).upper() != shown.fingerprint.replace(" ", ""):
        raise KeyMismatch(
            f"the card of {shown.name} has fingerprint {shown.fingerprint}, you heard another",
            remedy="The card was swapped or misread: get it again over a way you trust.",
        )
    Roster(found.root / "roster.json").add(shown)
    if found.running:
        tell_superlink(found)
    typer.echo(f"  {shown.name} is admitted")


def list_clients(home: HomeOption = DEFAULT) -> None:
    """Every client that was ever admitted."""
    from server.home import CoordinatorHome
    from server.roster import Roster

    for name, entry in sorted(Roster(CoordinatorHome(home).root / "roster.json").entries().items()):
        typer.echo(f"  {name:24} {'REVOKED ' if entry.revoked else 'admitted'}  {entry.card.fingerprint}")


def revoke(name: Annotated[str, typer.Argument(help="Name of the client.")], home: HomeOption = DEFAULT) -> None:
    """Shut a client out, for ever under this card. A run in progress goes on without it under a new group key."""
    from server.home import CoordinatorHome
    from server.roster import Roster, tell_superlink

    found = CoordinatorHome(home)
    Roster(found.root / "roster.json").revoke(name)
    if found.running:
        tell_superlink(found)
    typer.echo(f"  {name} is revoked")


def run(
    config: Annotated[Path | None, typer.Argument(help="Configuration of the run.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an earlier run, in its configuration.")
    ] = None,
    home: HomeOption = DEFAULT,
) -> None:
    """Run the lifecycle over the federation's clients. Ctrl-C detaches; the run goes on."""
    from pipeline.configfile import load_config
    from pipeline.workspace import Workspace
    from privacy.errors import ConfigError
    from server.home import CoordinatorHome
    from server.runs import Runs

    found = CoordinatorHome(home)
    if config and not resume:
        settings = load_config(config)
    elif resume and not config:
        settings = Workspace.existing(found.workspace).recorded_config(resume)
    else:
        raise ConfigError("say either CONFIG or --resume RUN", remedy=f"Runs: sottovoce runs list {_workspace(home)}")
    number = Runs(found).submit(settings)
    typer.echo(f"  run {number} submitted      Ctrl-C detaches      stop it: sottovoce server stop {number}{_at(home)}")
    _attach(home, number)


def attach(number: Annotated[str, typer.Argument(metavar="RUN")], home: HomeOption = DEFAULT) -> None:
    """Follow a run that was submitted before."""
    _attach(home, number)


def stop(number: Annotated[str, typer.Argument(metavar="RUN")], home: HomeOption = DEFAULT) -> None:
    """Stop a run; finished rounds and stages are kept."""
    from server.home import CoordinatorHome
    from server.runs import Runs

    Runs(CoordinatorHome(home)).stop(number)
    typer.echo(f"  run {number} is stopped")


def _attach(home: Path, number: str) -> None:
    from server.home import CoordinatorHome
    from server.runs import Runs

    try:
        Runs(CoordinatorHome(home)).follow(number, typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"  detached: the run goes on. Again: sottovoce server attach {number}{_at(home)}")
        return
    typer.echo(f"  run {number} is done")


def _at(home: Path) -> str:
    """The option by which the next command finds this home."""
    return "" if home == DEFAULT else f" --home {home}"


def _workspace(home: Path) -> str:
    return f"--workspace {home / 'workspace'}"


def _say(text: str) -> None:
    typer.echo(f"  {time.strftime('%H:%M:%S')}  {text}")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    coordinator = typer.Typer(help="Coordinate a federation of client nodes.")
    for command in (init, start, renew, attach, stop):
        coordinator.command()(command)
    roster = typer.Typer(help="Who is admitted.")
    roster.command()(add)
    roster.command("list")(list_clients)
    roster.command()(revoke)
    coordinator.add_typer(roster, name="roster", no_args_is_help=True)
    app.add_typer(coordinator, name="server", no_args_is_help=True)
    app.command()(run)
