"""sottovoce server, run, runs attach and runs stop: the operator's commands."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import Expect, RunName, Until, runs_app

HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's home.")]
HomeOption = Annotated[Path, typer.Option("--home", help="The coordinator's home.")]
Certificate = Annotated[
    Path | None, typer.Option(help="Certificate of the gateway that you have already, in PEM, with its chain.")
]
Key = Annotated[Path | None, typer.Option(help="Its private key.")]
Root = Annotated[Path | None, typer.Option(help="The root it was issued by: what clients know you by.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
DEFAULT = Path("sottovoce-server")
DETACHED = 130
"""Exit code of who stopped following: the run is not done."""
SOON = 30
"""Days before a certificate expires from which a start says so."""


def init(
    home: HomeArgument = DEFAULT,
    name: Annotated[str, typer.Option(help="Name of the federation.")] = "federation",
    host: Annotated[str, typer.Option(help="Address to listen on; loopback by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the gateway: the only one clients need.")] = 9443,
    link_port: Annotated[int, typer.Option(help="Port of the SuperLink, on loopback.")] = 9444,
    address: Annotated[
        list[str] | None, typer.Option(help="Host name or address clients reach you by; repeat it for several.")
    ] = None,
    certificate: Certificate = None,
    key: Key = None,
    ca: Root = None,
) -> None:
    """Make a home: a certificate authority and certificates (or yours), an empty roster."""
    from pipeline.language.configfile import parse
    from server.coordinator.authority import addresses_of
    from server.coordinator.home import LOOPBACK, CoordinatorHome, OwnCertificate, ServerSettings

    own = OwnCertificate.given(certificate, key, ca)
    known = (address or addresses_of(own.certificate)) if own else [*(address or []), *LOOPBACK]
    tree = {"name": name, "host": host, "port": port, "link_port": link_port, "addresses": list(dict.fromkeys(known))}
    CoordinatorHome.create(home, parse(ServerSettings, tree, "the options"), own)
    typer.echo(f"  Your certificate   {home / 'ca.crt'}   give it to every client, over a way you trust")
    if not own:
        typer.echo(f"  Keep safe          {home / 'ca.key'}   whoever has it can pose as you")
    typer.echo(f"  Admit clients      sottovoce server roster add CARD{_at(home)}")
    typer.echo(f"  Next               sottovoce server start {home}")


def start(home: HomeArgument = DEFAULT) -> None:
    """Coordinate until Ctrl-C or SIGTERM."""
    from server.coordinator.door import AN_ADDRESS, SECONDS
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.processes import Coordinator

    found = CoordinatorHome(home)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    settings = found.settings

    def ready() -> None:
        _say(f"{settings.name} is open at {settings.host}:{settings.port}      Ctrl-C closes it")
        _say(f"without an admitted key a connection lasts {SECONDS:.0f} s, and an address has {AN_ADDRESS} at most")
        if (left := found.days_left) < SOON:
            _say(f"! the certificate expires in {left} days: sottovoce server renew {home}, then start again")

    Coordinator(found).run(stopped, ready, say=_say)
    _say("stopped: runs in progress go on by themselves when it is started again")


def renew(home: HomeArgument = DEFAULT, certificate: Certificate = None, key: Key = None, ca: Root = None) -> None:
    """New certificates from the same authority, or yours. Clients notice nothing; start the coordinator again."""
    from server.coordinator.home import CoordinatorHome, OwnCertificate

    found = CoordinatorHome(home)
    found.renew(OwnCertificate.given(certificate, key, ca or found.root / "ca.crt"))
    typer.echo("  renewed: start the coordinator again")


def add(
    card: Annotated[Path, typer.Argument(help="The client's card.json.")],
    fingerprint: Annotated[str | None, typer.Option(help="What the owner read to you; asked for if missing.")] = None,
    home: HomeOption = DEFAULT,
) -> None:
    """Admit a client, if the fingerprint its owner reads to you is that of the card."""
    from pipeline.language.card import ClientCard
    from privacy.errors import KeyMismatch
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.roster import Roster, tell_superlink

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
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.roster import Roster

    for name, entry in sorted(Roster(CoordinatorHome(home).root / "roster.json").entries().items()):
        typer.echo(f"  {name:24} {'REVOKED ' if entry.revoked else 'admitted'}  {entry.card.fingerprint}")


def revoke(name: Annotated[str, typer.Argument(help="Name of the client.")], home: HomeOption = DEFAULT) -> None:
    """Shut a client out, for ever under this card. A run in progress goes on without it under a new group key."""
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.roster import Roster, tell_superlink

    found = CoordinatorHome(home)
    Roster(found.root / "roster.json").revoke(name)
    if found.running:
        tell_superlink(found)
    typer.echo(f"  {name} is revoked")


def run(
    config: Annotated[Path | None, typer.Argument(help="Configuration of the run.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an earlier run, in its configuration.")
    ] = None,
    name: RunName = None,
    until: Until = None,
    expect: Expect = None,
    home: HomeOption = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Run the lifecycle over the federation's clients. Ctrl-C detaches; the run goes on."""
    from pipeline.host.environment import quiet_environment

    quiet_environment()
    from pipeline.language.configfile import load_config
    from pipeline.lifecycle import Part
    from pipeline.store.metadata import run_id
    from pipeline.store.workspace import Workspace
    from privacy.errors import ConfigError
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.runs import Runs

    found = CoordinatorHome(home)
    if config and not resume:
        settings = load_config(config, overrides or [], expect)
    elif resume and not config and not overrides and not expect:
        settings = Runs(found).config(resume)
    else:
        raise ConfigError(
            "say either CONFIG, with --set where you like, or --resume RUN",
            remedy=f"Runs: sottovoce runs list --workspace {found.workspace}",
        )
    part = Part(run_id(name) if name else None, until)
    part.check(settings, Workspace(found.workspace, settings.storage))
    submitted = Runs(found).submit(settings, part)
    if not as_json:
        typer.echo(
            f"  run {submitted} is submitted      Ctrl-C detaches      stop it: {_runs('stop', submitted, home)}"
        )
    _follow(home, submitted, as_json)


def attach(run: RunArgument, home: HomeOption = DEFAULT, as_json: AsJson = False) -> None:
    """Follow a run that was submitted to a coordinator. Ctrl-C detaches; the run goes on."""
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.runs import Runs

    _follow(home, Runs(CoordinatorHome(home)).known(run), as_json)


def stop(run: RunArgument, home: HomeOption = DEFAULT) -> None:
    """Stop a run of a coordinator for good; finished rounds and stages are kept, and --resume goes on with them."""
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.runs import Runs

    typer.echo(f"  run {Runs(CoordinatorHome(home)).stop(run)} is stopped")


def _follow(home: Path, run: str, as_json: bool) -> None:
    from rich.console import Console

    from pipeline.reporting.console import showing
    from pipeline.reporting.report import print_places, print_report
    from server.coordinator.following import Follower
    from server.coordinator.home import CoordinatorHome
    from server.coordinator.runs import Runs

    follower = Follower(Runs(CoordinatorHome(home)), run)
    try:
        with showing(as_json=as_json, clock=lambda: follower.time) as progress:
            report = follower.follow(progress)
    except KeyboardInterrupt:
        typer.echo(f"  detached: the run goes on. Again: {_runs('attach', follower.run, home)}", err=as_json)
        raise SystemExit(DETACHED) from None
    if report is None:
        return
    if as_json:
        typer.echo(json.dumps({"event": "Report", **report.model_dump(mode="json")}))
        return
    console = Console(highlight=False, soft_wrap=True)
    print_report(report, console)
    print_places(report, console)


def _runs(command: str, run: str, home: Path) -> str:
    return f"sottovoce runs {command} {run}{_at(home)}"


def _at(home: Path) -> str:
    """The option by which the next command finds this home."""
    return "" if home == DEFAULT else f" --home {home}"


def _say(text: str) -> None:
    typer.echo(f"  {time.strftime('%H:%M:%S')}  {text}")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    coordinator = typer.Typer(help="Coordinate a federation of client nodes.")
    for command in (init, start, renew):
        coordinator.command()(command)
    roster = typer.Typer(help="Who is admitted.")
    roster.command()(add)
    roster.command("list")(list_clients)
    roster.command()(revoke)
    coordinator.add_typer(roster, name="roster", no_args_is_help=True)
    app.add_typer(coordinator, name="server", no_args_is_help=True)
    app.command()(run)
    runs_app.command()(attach)
    runs_app.command()(stop)
