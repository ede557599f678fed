"""sottovoce client: the data owner's own commands."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import clients.roster_cli

if TYPE_CHECKING:
    from clients.node.node import Node
    from clients.sources.source import Source
    from pipeline.learning.contract import DataContract

HomeArgument = Annotated[Path, typer.Argument(help="The client's home.")]
DEFAULT = Path("sottovoce-client")
LISTED_ROWS = 20


def init(
    home: HomeArgument = DEFAULT,
    name: Annotated[str, typer.Option(prompt="Name of this client (everyone in the federation sees it)")] = "",
    source: Annotated[
        Path, typer.Option(prompt="CSV or Parquet file with the data (it is only read, and nothing of it leaves)")
    ] = Path("data.parquet"),
    contract: Annotated[
        Path | None, typer.Option(help="Your own data contract in YAML: no run may have other data than it declares.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(help="About how many rows it has: public, and what every plan is made from. Default: rounded."),
    ] = None,
    lifetime_epsilon: Annotated[
        float, typer.Option(prompt="Most epsilon that may ever be spent on one record (no server can change it)")
    ] = 8.0,
    lifetime_delta: Annotated[float, typer.Option(help="Delta at which the lifetime epsilon is stated.")] = 1e-5,
    run_epsilon: Annotated[float, typer.Option(help="Most epsilon that one run may have.")] = 4.0,
    min_cohort: Annotated[
        int, typer.Option(prompt="Fewest clients in any sum you take part in (your update hides among them)")
    ] = 5,
    colluders: Annotated[int, typer.Option(help="Other clients that may pool what they know.")] = 1,
    known_only: Annotated[
        bool, typer.Option(help="Take part only with clients whose fingerprints you have compared.")
    ] = True,
    min_rows: Annotated[int, typer.Option(help="Take no part with fewer rows declared.")] = 100,
    forbid: Annotated[
        str, typer.Option(prompt="Columns that never enter, separated by commas (names, numbers of patients)")
    ] = "",
    allow: Annotated[
        list[str] | None, typer.Option(help="Action a coordinator may ask for; repeat it. Default: all of them.")
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option("--unit", help="What a run may protect: record, client, none; repeat it. Default: the first two."),
    ] = None,
    max_parameters: Annotated[
        int, typer.Option(help="Largest model you train: more parameters can remember more.")
    ] = 100_000_000,
    encryption: Annotated[bool, typer.Option(help="Demand sums that the coordinator cannot read.")] = True,
    masks: Annotated[bool, typer.Option(help="Demand pairwise masks: not even another client can read you.")] = True,
    coordinator: Annotated[str, typer.Option(prompt="HOST:PORT of the coordinator")] = "localhost:9443",
    ca: Annotated[
        Path, typer.Option(prompt="The federation's certificate, ca.crt from the operator (who else could pose as it)")
    ] = Path("ca.crt"),
) -> None:
    """Make a home: keys, policy, an opened ledger, and the card with which the operator admits you."""
    from clients.home import Home
    from clients.ingestion import check_forbidden
    from clients.node.node import Node
    from clients.policy import ACTIONS, ClientPolicy
    from clients.sources.source import Source, as_tree
    from pipeline.host.services import refuse_odd
    from pipeline.language.configfile import parse
    from privacy.errors import ConfigError

    if not source.exists():
        raise ConfigError(f"{source}: no such file", remedy="Name the file with the data: --source.")
    if not ca.exists():
        raise ConfigError(f"{ca}: no such file", remedy="Ask the operator for ca.crt, and name it: --ca.")
    forbidden = [column.strip() for column in forbid.split(",") if column.strip()]
    file = Source.of(as_tree(source.absolute()))
    check_forbidden(file, forbidden, "--forbid")
    tree = {
        "name": name,
        "source": file,
        "rows": _declared_rows(file) if rows is None else rows,
        "lifetime_epsilon": lifetime_epsilon,
        "lifetime_delta": lifetime_delta,
        "run_epsilon": min(run_epsilon, lifetime_epsilon),
        "units": units or ("record", "subject", "client"),
        "min_cohort": min_cohort,
        "colluders": colluders,
        "known_clients_only": known_only,
        "min_rows": min_rows,
        "require_encryption": encryption,
        "require_masks": masks,
        "allowed_actions": allow or ACTIONS,
        "max_parameters": max_parameters,
        "forbidden_columns": forbidden,
    }
    policy = parse(ClientPolicy, tree, "the answers")
    policy.permit_rows(0)
    Node.introduction(coordinator, ca)  # before anything is written
    refuse_odd(home)
    agreed = _contract(contract, file) if contract else None
    node = Node.create(Home.create(home, policy, agreed), coordinator, ca)
    typer.echo(f"\n  Your fingerprint   {node.card.fingerprint}")
    typer.echo("                     read it to the operator, and to the owners of the other clients, over the phone")
    typer.echo(f"  Your card          {home / 'card.json'}   send it to them: nothing in it is secret")
    typer.echo(
        f"  You declare        {policy.rows:,} rows: public; how many there really are, nothing that leaves tells"
    )
    typer.echo(f"  Your policy        {home / 'policy.yaml'}   nobody else can change it")
    if agreed:
        typer.echo(
            f"  Your contract      {home / 'contract.yaml'}   your data has its {len(agreed.columns) + 1} columns"
        )
    typer.echo(f"  Keep safe          {home}: its keys and its ledger are what protects you. One home a source:")
    typer.echo("                     a second one would have a ledger, and a lifetime limit, of its own")
    if known_only:
        typer.echo(f"  The others         sottovoce client roster pin CARD --home {home}   once you have compared it")
    typer.echo(f"  Next               sottovoce client start {home}")


def _declared_rows(source: Source) -> int:
    """Its number of rows to two digits; where somebody sits before a terminal, another one if they like."""
    from clients.policy import declared

    proposed = declared(len(source.read()))
    if not sys.stdin.isatty():
        return proposed
    question = "About how many rows to declare (everyone may know it; the true number never leaves)"
    return int(typer.prompt(question, default=proposed, type=int))


def _contract(path: Path, source: Source) -> DataContract:
    """The contract in a file, alone or as the section `data` of a configuration. Raises ConfigError, DataError."""
    from clients.ingestion import check_columns, check_forbidden
    from pipeline.language.configfile import parse, read_yaml
    from pipeline.learning.contract import DataContract

    tree = read_yaml(path)
    contract = parse(DataContract, tree.get("data", tree), path.name)
    check_columns(source.read(), contract)
    check_forbidden(source, tuple(contract.forbidden), f"forbidden in {path.name}")
    return contract


def start(home: HomeArgument = DEFAULT) -> None:
    """Take part until Ctrl-C or SIGTERM. Lost connections and crashed processes are tried again by themselves."""
    node = _node(home)
    node.check()
    node.greet()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    name, coordinator = node.home.policy.name, node.connection.coordinator
    node.run(
        stopped,
        ready=lambda: _say(f"{name} is up and connects to {coordinator} by itself      Ctrl-C stops it"),
        say=_say,
    )
    _say("stopped: nothing is lost, start it again when you like")


def status(home: HomeArgument = DEFAULT) -> None:
    """Whether the node runs, how it stands with the coordinator, and what is left of the budget."""
    node = _node(home)
    policy, process = node.home.policy, node.process
    state = f"runs (process {process})" if process else "is not running"
    typer.echo(f"  {policy.name} {state}      coordinator {node.connection.coordinator}")
    typer.echo(f"  fingerprint {node.card.fingerprint}")
    spent = node.home.ledger.spent()
    limit = "no limit" if math.isinf(policy.lifetime_epsilon) else f"of {policy.lifetime_epsilon:g}"
    typer.echo(f"  budget      epsilon {spent:.2f} {limit}, delta {policy.lifetime_delta:g}")
    if process:
        typer.echo(f"  link        {node.link}")
    for alert in node.home.alerts.every():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(alert.last))
        typer.echo(
            f"  alert       {alert.code}: {alert.action} was refused {alert.times} times, last {when} ({alert.asked})"
        )
        typer.echo(f"              {_plain(alert.said)}")
    unknown = [name for name, known in node.home.known_clients.entries().items() if known.by == "met"]
    if unknown:
        typer.echo(
            f"  roster      {len(unknown)} not compared yet: {', '.join(unknown[:5])}   sottovoce client roster list"
        )
    log = node.root / "client.log"
    if log.exists() and (lines := [line for line in log.read_text(errors="replace").splitlines() if line.strip()]):
        typer.echo(f"  work        {_plain(lines[-1])[:160]}")


def stop(home: HomeArgument = DEFAULT) -> None:
    """Stop the node; it finishes nothing, and nothing it has promised is lost."""
    node = _node(home)
    process = node.process
    if process is None:
        typer.echo("  it is not running")
        return
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while node.process == process and time.monotonic() < deadline:
        time.sleep(0.2)
    typer.echo("  stopped" if node.process != process else f"  process {process} is still stopping")


def policy(home: HomeArgument = DEFAULT) -> None:
    """What this client allows, from policy.yaml, checked."""
    from clients.policy import ClientPolicy

    found = _node(home).home
    for field, value in found.policy.model_dump(mode="json").items():
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        typer.echo(f"  {field:18} {shown!s:40} {ClientPolicy.model_fields[field].description}")
    bounds = "contract.yaml" if found.contract else "none"
    typer.echo(f"  {'contract':18} {bounds:40} The data a run may ask for, as declared there, and no other.")


def ledger(
    home: HomeArgument = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The last rows of the ledger as they stand; `sottovoce budget show` tells what they mean."""
    for row in _node(home).home.ledger.rows()[-LISTED_ROWS:]:
        if as_json:
            typer.echo(json.dumps({"seq": row.seq, "time": row.time, "kind": row.kind, "id": row.id}))
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.time))
            typer.echo(f"  {row.seq:>5}  {when}  {row.kind:8} {row.id}")


def _node(home: Path) -> Node:
    from clients.home import Home
    from clients.node.node import Node
    from privacy.errors import NotFound

    if not (home / "policy.yaml").exists():
        raise NotFound(f"{home} is not a client's home", remedy=f"Make one: sottovoce client init {home}")
    return Node(Home(home))


def _say(text: str) -> None:
    typer.echo(f"  {time.strftime('%H:%M:%S')}  {text}")


def _plain(line: str) -> str:
    return "".join(character for character in line if character.isprintable())


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    client = typer.Typer(help="Take part in a federation, beside your own data.")
    for command in (init, start, status, stop, policy, ledger):
        client.command()(command)
    clients.roster_cli.register(client)
    app.add_typer(client, name="client", no_args_is_help=True)
