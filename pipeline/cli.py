"""sottovoce config | graph | runs | lineage."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.store.metadata import Metadata
    from pipeline.store.workspace import Workspace

Workspaces = Annotated[Path | None, typer.Option("--workspace", help="Folder of the runs.")]
RunName = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Begin the run of that name, or go on with it: any text."),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="STAGE", help="Run this stage and what it needs, then end; budget: only ask who could pay."),
]
Expect = Annotated[
    str | None,
    typer.Option(metavar="DIGEST", help="Refuse a file that says something else than when this was exported."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

ERROR = 160
"""Characters of a run's error that a list shows."""

config_app = typer.Typer(help="Check a configuration, or print its JSON Schema.", no_args_is_help=True)
runs_app = typer.Typer(help="List, show, follow and stop runs.", no_args_is_help=True)


@config_app.command("schema")
def schema() -> None:
    """JSON Schema of the configuration, every setting described."""
    from pipeline.language.config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))


@config_app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Configuration file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole configuration, defaults included.")] = False,
) -> None:
    """Read a configuration and say what is wrong with it."""
    from pipeline.language.configfile import load_config

    config = load_config(path, overrides or [])
    if show:
        import yaml

        typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        return
    private = "NOT PRIVATE" if config.privacy == "none" else f"epsilon {config.privacy.epsilon:g}"
    typer.echo(
        f"{path.name}: {config.name}, {len(config.data.columns)} columns, {private}, {config.training.rounds} rounds"
    )


def graph(
    graphviz: Annotated[bool, typer.Option("--graphviz", help="In Graphviz's language, for `dot`.")] = False,
) -> None:
    """Print the stages of the lifecycle: where each runs, what it takes, what it makes."""
    from pipeline.lifecycle import lifecycle_dag

    dag = lifecycle_dag()
    typer.echo(dag.as_graphviz() if graphviz else dag.as_text())


@runs_app.command("list")
def list_runs(workspace: Workspaces = None, as_json: AsJson = False) -> None:
    """All runs, newest first."""
    space = _workspace(workspace)
    metadata = space.metadata()
    runs = metadata.runs()
    for run in runs:
        made = _made(space, metadata, run.id)
        if as_json:
            typer.echo(json.dumps({**vars(run), "made": made}))
            continue
        took = f"{run.ended - run.started:6.1f} s" if run.ended else "       -"
        told = ""
        if made:
            metric, value = next(iter(made["metrics"].items()), ("", 0.0))
            told = f"v{made['version']}  {metric} {value:.4f}  {made['privacy'].partition(';')[0]}  "
        error = (run.error or "").partition("\n")[0]
        line = f"{run.id}  {_when(run.started)}  {took}  {run.state:8}  {run.name}  {told}"
        typer.echo(f"{line}{error[:ERROR]}{'...' if len(error) > ERROR else ''}".rstrip())
    if not runs:
        typer.echo("no runs yet: sottovoce simulate")


def _made(space: Workspace, metadata: Metadata, run: str) -> dict[str, Any] | None:
    """The version that a run registered: its number, metrics and promise; None: none yet, or its artifact is gone."""
    from privacy.errors import SottovoceError

    for execution, _ in metadata.executions_of(run):
        if execution.stage == "registration" and (digest := metadata.output(execution.id, "model_version")):
            try:
                told = json.loads(space.artifacts().get(digest))
            except (SottovoceError, ValueError):
                return None
            return {"version": told["version"], "metrics": told["metrics"], "privacy": told["privacy"]["text"]}
    return None


def stages(
    run: Annotated[str, typer.Argument(help="Id of the run (or its beginning), or its name.")],
    workspace: Workspaces = None,
    as_json: AsJson = False,
) -> None:
    """Which stages of a run are done: each with its state, in the order of the graph."""
    from pipeline.host.environment import quiet_environment
    from pipeline.store.metadata import run_id

    quiet_environment()
    from pipeline.lifecycle import lifecycle_dag

    space = _workspace(workspace)
    metadata = space.metadata()
    named = [known.id for known in metadata.runs() if known.id == run_id(run)]
    found = metadata.run(named[0] if named else run)
    states: dict[str, str] = {}
    for execution, cached in metadata.executions_of(found.id):
        states[execution.stage] = (
            "reused" if cached else _told(execution.state, found.state == "RUNNING" and space.busy)
        )
    for name in lifecycle_dag(searching="tuning" in states).order:
        state = states.get(name, "to do")
        typer.echo(json.dumps({"stage": name, "state": state}) if as_json else f"{name:14} {state}")


def _told(state: str, runs: bool) -> str:
    """A stage that is said to run while its run does not was cut off."""
    return {"COMPLETE": "done", "FAILED": "failed"}.get(state, "running" if runs else "interrupted")


def lineage(
    artifact: Annotated[str, typer.Argument(help="Digest of an artifact (or its beginning), or a model's name.")],
    workspace: Workspaces = None,
    as_json: AsJson = False,
) -> None:
    """What an artifact was made from, back to every client's snapshot."""
    from privacy.errors import NotFound

    metadata = _metadata(workspace)
    matches = metadata.matching(artifact) or _version_artifacts(metadata, workspace, artifact)
    if len(matches) != 1:
        raise NotFound(f"{len(matches)} artifacts match {artifact!r}", remedy="Digests are in: sottovoce runs show RUN")
    for depth, link, execution in metadata.ancestry(matches[0][0]):
        if as_json:
            typer.echo(json.dumps({"depth": depth, **vars(link), "stage": execution.stage, "code": execution.code}))
        else:
            name = f"{'  ' * depth}{link.name}"
            typer.echo(f"{name:32} {link.artifact[:16]}  {execution.stage} {execution.id} {_when(execution.started)}")


def _version_artifacts(metadata: Metadata, workspace: Path | None, name: str) -> list[tuple[str, str]]:
    """The newest model_version artifact of a run of that name."""
    for run in metadata.runs():
        if run.name != name:
            continue
        for execution, _ in metadata.executions_of(run.id):
            if execution.stage == "registration" and (digest := metadata.output(execution.id, "model_version")):
                return [(digest, "model_version")]
    return []


def _workspace(folder: Path | None) -> Workspace:
    from pipeline.store.workspace import DEFAULT, Workspace

    return Workspace.existing(folder or DEFAULT)


def _metadata(folder: Path | None) -> Metadata:
    return _workspace(folder).metadata()


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.add_typer(config_app, name="config")
    app.command()(graph)
    app.add_typer(runs_app, name="runs")
    app.command()(stages)
    app.command()(lineage)
