"""sottovoce experiments | feedback."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.evidence.experiments import Comparison
    from server.evidence.quality import Quality

experiments = typer.Typer(help="What outcomes say of versions tried against each other.", no_args_is_help=True)
feedback = typer.Typer(help="Outcomes of predictions: how versions do, and what is kept.", no_args_is_help=True)
WORKSPACE = Annotated[Path | None, typer.Option(help="Folder that holds the registry.")]
MODEL = Annotated[str | None, typer.Option(help="Model; default: the only one registered.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@experiments.command("list")
def list_experiments(model: MODEL = None, workspace: WORKSPACE = None, as_json: AS_JSON = False) -> None:
    """Every comparison that outcomes are evidence for, the latest first."""
    from server.evidence.told import told

    found = _comparisons(workspace, model)
    for one in found:
        if as_json:
            typer.echo(json.dumps(told(one)))
            continue
        kind = "asked too" if one.kind == "shadow" else "divided"
        typer.echo(
            f"  {one.name:10} v{one.champion} or v{one.challenger}  {kind:9}  {one.difference.count:7,} subjects  "
            f"{one.verdict:9}  {one.why}"
        )
    if not found and not as_json:
        typer.echo("  no outcome tells of two versions yet: sottovoce traffic split | shadow, then POST /feedback")


@experiments.command("show")
def show_experiment(
    name: Annotated[str, typer.Argument(help="Name of the experiment, as `list` says it.")],
    effect: Annotated[float, typer.Option(min=1e-6, max=1, help="A difference that would matter.")] = 0.01,
    model: MODEL = None,
    workspace: WORKSPACE = None,
    as_json: AS_JSON = False,
) -> None:
    """One of them: what was counted, how sure it is, how much more would be needed."""
    from privacy.errors import NotFound
    from server.evidence.told import told

    found = [one for one in _comparisons(workspace, model) if one.name == name]
    if not found:
        raise NotFound(f"there is no experiment {name}", remedy="See those there are: sottovoce experiments list")
    for one in found:
        more = one.more(effect)
        if as_json:
            typer.echo(json.dumps({**told(one), "effect": effect, "more": more}))
            continue
        typer.echo(f"  {one.name}   {one.verdict}: {one.why}")
        typer.echo(f"  since      {_when(one.began)}, last outcome {_when(one.latest)}")
        for version, count in one.subjects.items():
            penalty = f"{one.penalties[version]:.4f}" if version in one.penalties else "-"
            typer.echo(f"  v{version:<9} {count:7,} subjects   mean penalty {penalty}")
        typer.echo(f"  holds      with {1 - one.alpha:.1%} at every moment, whenever and however often one looks")
        if one.verdict == "undecided":
            words = "more than can be counted on" if more is None else f"about {more:,} more subjects"
            typer.echo(f"  needs      {words} until a difference of {effect:g} shows")


@feedback.command("show")
def show_feedback(model: MODEL = None, workspace: WORKSPACE = None, as_json: AS_JSON = False) -> None:
    """How each version does on the outcomes that came, and what is kept."""
    from pipeline.store.registry import Registry
    from server.evidence.place import outcomes_of
    from server.evidence.quality import qualities, task_of
    from server.naming import chosen_model

    space, name = chosen_model(workspace, model)
    outcomes = outcomes_of(space.root, name)
    found = outcomes.of(name)
    if not found:
        typer.echo("  no outcome has come yet: POST /feedback")
        return
    registered = Registry(space.registry_url, space.models).versions(name)
    known = {version.version: version for version in registered}
    for version, quality in qualities({number: task_of(one) for number, one in known.items()}, found).items():
        if as_json:
            typer.echo(json.dumps(_told_quality(quality)))
            continue
        then = known[version].metrics if version in known else {}
        typer.echo(f"  v{version}   {quality.outcomes:,} outcomes   {quality.called} {quality.penalty:.4f}")
        for metric, measured in quality.measured.items():
            before = f"   at registration {then[metric]:.4f}" if metric in then else ""
            typer.echo(f"    {metric:16} {measured.value:.4f} +- {measured.error:.4f}{before}")
        if quality.bias is not None:
            typer.echo(f"    {'bias':16} {quality.bias:+.4f}   mean prediction less mean outcome")
    kept, complete = outcomes.records(name)
    if kept and not as_json:
        typer.echo(f"  kept       {kept:,} rows, {complete:,} of them with their outcome")


@feedback.command("forget")
def forget(
    days: Annotated[int | None, typer.Option(min=0, help="What was asked more than so many days ago.")] = None,
    id: Annotated[str | None, typer.Option(help="One prediction.")] = None,
    model: MODEL = None,
    workspace: WORKSPACE = None,
) -> None:
    """Delete outcomes and rows, of all models that keep theirs in one place with this one."""
    from privacy.errors import ConfigError
    from server.evidence.place import outcomes_of
    from server.evidence.receipts import prediction_of
    from server.naming import chosen_model

    if (days is None) == (id is None):
        raise ConfigError("what is to be forgotten?", remedy="Give --days or --id.")
    try:
        prediction = prediction_of(id) if id else None
    except ValueError:
        raise ConfigError(
            f"{str(id)[:20]!r} is the id of no prediction", remedy="Give what /predict answered."
        ) from None
    space, name = chosen_model(workspace, model)
    gone, rows = outcomes_of(space.root, name).forget(time.time() - 86400 * (days or 0), prediction)
    typer.echo(f"  {gone:,} outcomes and {rows:,} rows deleted; snapshots that clients took of them are theirs")


def _told_quality(quality: Quality) -> dict[str, object]:
    measured = {metric: {"value": found.value, "error": found.error} for metric, found in quality.measured.items()}
    return {**vars(quality), "measured": measured}


def _comparisons(workspace: Path | None, model: str | None) -> list[Comparison]:
    from server.evidence.experiments import comparisons
    from server.evidence.place import outcomes_of
    from server.naming import chosen_model

    space, name = chosen_model(workspace, model)
    return comparisons(outcomes_of(space.root, name).of(name))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.add_typer(experiments, name="experiments")
    app.add_typer(feedback, name="feedback")
