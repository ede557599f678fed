"""sottovoce budget: what a run will spend, what a client has spent, and whether its ledger holds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from clients.home import Home
    from pipeline.config import Config, RecordPrivacy
    from privacy.ledger import Row
    from privacy.plan import Release

BAR = 32
WIDTH = 110
SIMULATED = Path("sottovoce-workspace/clients")
Homes = Annotated[list[Path] | None, typer.Argument(help="Client homes; default: all in ./sottovoce-workspace.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def show(homes: Homes = None, as_json: Json = False) -> None:
    """A client's ledger as a person would read it: what was released, on which records, and what is left."""
    console = _console()
    for home in _homes(homes):
        entries = list(_entries(home))
        spent, allowed = home.ledger.spent(), home.policy.lifetime_epsilon
        if as_json:
            fields = {"client": home.policy.name, "spent": _finite(spent), "allowed": _finite(allowed)}
            typer.echo(json.dumps({**fields, "delta": home.policy.lifetime_delta, "entries": entries}))
            continue
        console.print(f"  [bold]{home.policy.name}[/]   {_of(spent, allowed)}   delta {home.policy.lifetime_delta:g}")
        console.print(_ledger_table(entries) if entries else "  nothing was released yet")
        console.print()


def verify(homes: Homes = None) -> None:
    """Check the hash chain of ledgers and that none was rolled back. Exits with 4 if one does not hold."""
    from privacy.errors import LedgerError

    broken: LedgerError | None = None
    for home in _homes(homes):
        try:
            rows = home.ledger.rows()
        except LedgerError as error:
            typer.echo(f"  {home.policy.name:24} REFUSED: {error.cause}")
            broken = broken or error
            continue
        typer.echo(f"  {home.policy.name:24} holds: {len(rows)} rows, head {home.ledger.head()[:16]}")
    if broken:
        raise broken


def plan(
    config: Annotated[Path, typer.Argument(help="Configuration of the run.")],
    rows: Annotated[int, typer.Option(min=1, help="Training rows of the client.")] = 10_000,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    home: Annotated[Path | None, typer.Option(help="Client home: also says what is left in its ledger after.")] = None,
) -> None:
    """What a run will spend at a client, before anything is spent; and what other settings would cost."""
    from clients.planning import make_plan
    from pipeline.configfile import load_config
    from privacy.plan import epsilon_of

    settings = load_config(config, overrides or [])
    console = _console()
    if settings.privacy == "none":
        console.print(f"  [bold red]{settings.name} is NOT PRIVATE[/] (privacy: none): epsilon is infinite")
        return
    made = make_plan(settings.privacy, settings.training, rows)
    run = made.run()
    console.print(f"  [bold]{settings.name}[/] at a client with {rows:,} training rows, add/remove one record")
    console.print(
        f"  training    {settings.training.rounds} rounds x {made.steps_per_round} steps, sampling rate "
        f"{made.sampling_rate:.4f}, clipping norm {made.clipping_norm:g}: noise multiplier [bold]"
        f"{made.noise_multiplier:.3f}[/]"
    )
    pld, rdp = (epsilon_of([run], settings.privacy.delta, accountant) for accountant in ("pld", "rdp"))
    console.print(f"              epsilon {pld:.3f} at delta {settings.privacy.delta:g} (RDP would say {rdp:.3f})")
    console.print(f"  evaluation  epsilon {settings.privacy.epsilon:g}, on the held-out rows, which training never saw")
    console.print("  all other stages release outcomes of checks only, and charge nothing")
    if home:
        _left_after(console.print, settings, settings.privacy, made.run(), home)
    console.print()
    console.print(_alternatives(settings, settings.privacy, rows))
    console.print("\n  epsilon of the run against its noise")
    for factor in (0.5, 0.7, 1.0, 1.4, 2.0, 4.0):
        noisier = replace(run, noise_multiplier=made.noise_multiplier * factor)
        console.print(f"  {_bar(noisier.noise_multiplier, epsilon_of([noisier], settings.privacy.delta), pld * 4)}")


def _console() -> Console:
    """Wide enough for a ledger's columns also where there is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=max(WIDTH, Console().width))


def _homes(given: list[Path] | None) -> list[Home]:
    from clients.home import Home
    from privacy.errors import NotFound

    found = given or sorted(path.parent for path in SIMULATED.glob("*/policy.yaml"))
    if not found:
        raise NotFound(f"there is no client home in {SIMULATED}", remedy="Name one: sottovoce budget show HOME")
    for root in found:
        if not (root / "policy.yaml").exists():
            raise NotFound(f"{root} is not a client home: it has no policy.yaml")
    return [Home(root) for root in found]


def _entries(home: Home) -> Iterator[dict[str, object]]:
    """One entry for each purpose of each execution: equal releases are counted, not listed."""
    from privacy.plan import epsilon_of

    rows = home.ledger.rows()
    settled = {row.id: row.kind for row in rows if row.kind in ("commit", "void")}
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind == "reserve":
            grouped.setdefault(row.id.rpartition("/")[0], []).append(row)
    for what, members in grouped.items():
        charged = [row for row in members if settled.get(row.id) != "void"]
        states = {"void": "taken back", "commit": "released"}
        last = members[-1]
        yield {
            "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(members[0].time)),
            "what": " ".join((what.rpartition("/")[2], what.partition("/")[0][:8])),
            "times": len(members),
            "records": f"{last.population.low:.0%} to {last.population.high:.0%}",
            "noise": last.releases[0].noise_multiplier if last.releases else 0.0,
            "steps": sum(release.count for row in charged for release in row.releases),
            "epsilon": _finite(
                epsilon_of([release for row in charged for release in row.releases], home.policy.lifetime_delta)
            ),
            "state": ", ".join(sorted({states.get(settled.get(row.id, ""), "reserved") for row in members})),
        }


def _ledger_table(entries: list[dict[str, object]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=True)
    for heading in ("when", "released", "times", "on records", "noise", "steps", "epsilon alone", "state"):
        table.add_column(heading, no_wrap=True)
    for entry in entries:
        epsilon = entry["epsilon"]
        table.add_row(
            str(entry["when"]),
            str(entry["what"]),
            str(entry["times"]),
            str(entry["records"]),
            f"{entry['noise']:.3f}",
            f"{entry['steps']:,}",
            "infinite" if epsilon is None else f"{epsilon:.2f}",
            str(entry["state"]),
        )
    return table


def _left_after(
    tell: Callable[[str], None], settings: Config, privacy: RecordPrivacy, run: Release, root: Path
) -> None:
    from privacy.ledger import Population
    from privacy.plan import counts_release

    (home,) = _homes([root])
    trained, held_out = Population(settings.data.holdout, 1.0, "plan"), Population(0.0, settings.data.holdout, "plan")
    wanted = [([run], trained), ([counts_release(privacy.epsilon, privacy.delta)], held_out)]
    allowed = home.policy.lifetime_epsilon
    tell(f"  {home.policy.name} now      {_of(home.ledger.spent(), allowed)}")
    after = home.ledger.after(wanted)
    refused = "" if after <= allowed else "   [bold red]it would refuse"
    tell(f"  {home.policy.name} after    {_of(after, allowed)}, at most{refused}")


def _alternatives(settings: Config, privacy: RecordPrivacy, rows: int) -> Table:
    from rich.table import Table

    from clients.planning import make_plan

    table = Table(box=None, pad_edge=True)
    for heading in ("if", "noise multiplier", "noise of a step in the cohort's mean", "steps"):
        table.add_column(heading, no_wrap=True)
    training = settings.training
    cohort = settings.federation.expected_clients or settings.federation.min_cohort

    def add(title: str, changed: Config, clients: int) -> None:
        made = make_plan(changed.privacy, changed.training, rows)
        mean = made.noise_multiplier * made.clipping_norm / (made.expected_batch * math.sqrt(clients))
        steps = made.steps_per_round * changed.training.rounds
        table.add_row(title, f"{made.noise_multiplier:.3f}", f"{mean:.2e}", f"{steps:,}")

    add("as configured", settings, cohort)
    for factor in (0.5, 2.0, 4.0):
        epsilon = privacy.epsilon * factor
        add(f"epsilon {epsilon:g}", _with(settings, privacy={"epsilon": epsilon}), cohort)
    for rounds in (max(1, training.rounds // 2), training.rounds * 2):
        add(f"rounds {rounds}", _with(settings, training={"rounds": rounds}), cohort)
    for batch in (max(1, training.expected_batch // 4), training.expected_batch * 4):
        add(f"expected batch {batch}", _with(settings, training={"expected_batch": batch}), cohort)
    for clients in (2 * cohort, 10 * cohort):
        add(f"{clients} clients", settings, clients)
    return table


def _with(settings: Config, **sections: dict[str, object]) -> Config:
    changed = {name: getattr(settings, name).model_copy(update=fields) for name, fields in sections.items()}
    return settings.model_copy(update=changed)


def _bar(noise: float, epsilon: float, largest: float) -> str:
    length = max(1, round(BAR * min(1.0, epsilon / largest)))
    return f"noise {noise:8.3f}  {'█' * length:{BAR}}  epsilon {epsilon:.3f}"


def _of(spent: float, allowed: float) -> str:
    if math.isinf(allowed):
        return f"epsilon {spent:.2f} spent, no limit"
    return f"epsilon {spent:.2f} of {allowed:.2f} spent, {max(0.0, allowed - spent):.2f} left"


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 4)


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    budget = typer.Typer(help="What a run will spend, what a client has spent, and whether its ledger holds.")
    for command in (plan, show, verify):
        budget.command()(command)
    app.add_typer(budget, name="budget", no_args_is_help=True)
