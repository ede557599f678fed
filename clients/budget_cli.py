"""sottovoce budget: what a run will spend, what a client has spent, and whether its ledger holds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from clients.forecast import Forecast
    from clients.home import Home
    from privacy.ledger import Row
    from privacy.plan import DPPlan

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
    rows: Annotated[int, typer.Option(min=1, help="Training rows that the client declares.")] = 10_000,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    home: Annotated[Path | None, typer.Option(help="Client home: also says what is left in its ledger after.")] = None,
) -> None:
    """What a run will spend at a client, before anything is spent; and what other settings would cost."""
    from clients.forecast import Forecast
    from pipeline.language.configfile import load_config

    settings = load_config(config, overrides or [])
    console = _console()
    if settings.privacy == "none":
        console.print(f"  [bold red]{settings.name} is NOT PRIVATE[/] (privacy: none): epsilon is infinite")
        return
    forecast = Forecast(settings, rows)
    made = forecast.plan
    console.print(f"  [bold]{settings.name}[/] at a client with {rows:,} training rows")
    console.print(
        f"  every {made.unit}: epsilon [bold]{forecast.total:.3f}[/] at delta {made.delta:g}, {made.adjacency}; weight "
        f"{made.weight:.2f} of 1"
    )
    console.print(_how(made, settings.model.sums))
    console.print()
    console.print(_stages(forecast))
    console.print("  each is what the stage costs alone; together they make the epsilon above. No other stage charges")
    if home:
        _left_after(console, forecast, home)
    console.print()
    console.print(_alternatives(forecast))
    console.print(
        f"\n  epsilon of the run if one thing changes and the noise multiplier stays {made.noise_multiplier:.3f}"
    )
    for line in _plot(forecast):
        console.print(line)
    if made.unit != "client" and not forecast.shared:
        console.print("  cohort         leaves epsilon as it is: each client pays for itself; the mean gets less noisy")


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
    from privacy.accounting import epsilon_of

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
    table = _table("when", "released", "times", "on records", "noise", "steps", "epsilon alone", "state")
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


def _how(plan: DPPlan, sums: int) -> str:
    if plan.unit == "client":
        return (
            f"  {plan.rounds} rounds; an update is clipped to {plan.clipping_norm:g}; noise multiplier [bold]"
            f"{plan.noise_multiplier:.3f}[/] together, divided among {plan.cohort - plan.colluders} honest clients"
        )
    if sums:
        return f"  {plan.rounds} sums over all records; noise multiplier [bold]{plan.noise_multiplier:.3f}[/]"
    return (
        f"  {plan.rounds} rounds x {plan.steps_per_round} steps; sampling rate {plan.sampling_rate:.4f}; clipping norm "
        f"{plan.clipping_norm:g}; noise multiplier [bold]{plan.noise_multiplier:.3f}[/]"
    )


def _stages(forecast: Forecast) -> Table:
    table = _table("stage", "charges", "RDP would say", "on")
    for stage, epsilon, bound, records in forecast.stages():
        table.add_row(stage, f"epsilon {epsilon:.3f}", f"{bound:.3f}", records)
    return table


def _left_after(console: Console, forecast: Forecast, root: Path) -> None:
    (home,) = _homes([root])
    allowed = home.policy.lifetime_epsilon
    console.print(f"  {home.policy.name} now      {_of(home.ledger.spent(), allowed)}")
    after = home.ledger.after(forecast.charges)
    refused = "" if after <= allowed else "   [bold red]it would refuse"
    console.print(f"  {home.policy.name} after    {_of(after, allowed)}, at most{refused}")


def _alternatives(forecast: Forecast) -> Table:
    table = _table("if", "noise multiplier", "its noise in the cohort's mean", "steps")
    for row in forecast.alternatives():
        table.add_row(row.title, f"{row.noise_multiplier:.3f}", f"{row.step_noise:.2e}", f"{row.steps:,}")
    return table


def _plot(forecast: Forecast) -> Iterator[str]:
    points = list(forecast.curves())
    largest = 4 * forecast.total
    setting = ""
    for point in points:
        title, setting = ("" if point.setting == setting else point.setting), point.setting
        bar = "█" * max(1, round(BAR * min(1.0, point.epsilon / largest)))
        mark = "  as configured" if point.planned else ""
        beyond = ">" if point.epsilon > largest else " "
        yield f"  {title:14} {point.value:>9}  {bar:{BAR}}{beyond} {point.epsilon:.3f}{mark}"


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=True)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


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
