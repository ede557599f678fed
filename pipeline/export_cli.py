"""sottovoce export airflow | kubeflow | beam | openlineage | mlmd."""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.engine.export.handover import Handover
    from pipeline.store.exchange.story import Story

ConfigPath = Annotated[Path, typer.Argument(help="Configuration of the run.")]
Home = Annotated[
    Path | None, typer.Option(help="The coordinator's home: runs over the clients of a deployed federation.")
]
Folder = Annotated[Path | None, typer.Option("--workspace", help="A workspace: the federation is simulated there.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it; default: here on the terminal.")]
Hours = Annotated[float, typer.Option(help="What one stage may take before it counts as failed.")]
RunIds = Annotated[list[str] | None, typer.Argument(help="Runs, by their id or its beginning; default: all.")]


def airflow(
    config: ConfigPath,
    home: Home = None,
    workspace: Folder = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="CRON", help="When it runs by itself, in UTC; its assets start it as well.")
    ] = None,
    hours: Hours = 24.0,
    out: Out = None,
) -> None:
    """A DAG file for Apache Airflow 3: each task runs one stage."""
    from pipeline.engine.export.airflow import written

    _write(written(_handover(config, home, workspace, hours, _program()), schedule), out)


def beam(config: ConfigPath, home: Home = None, workspace: Folder = None, hours: Hours = 24.0, out: Out = None) -> None:
    """A pipeline for Apache Beam: each step runs one stage."""
    from pipeline.engine.export.beam import written

    _write(written(_handover(config, home, workspace, hours, _program())), out)


def kubeflow(
    config: ConfigPath,
    image: Annotated[str, typer.Option(help="Image of this program, as deploy/Containerfile builds it.")] = "sottovoce",
    claim: Annotated[str, typer.Option(help="Volume claim with the configuration and the workspace.")] = "sottovoce",
    mount: Annotated[str, typer.Option(help="Where the claim is mounted.")] = "/home/sottovoce/data",
    out: Out = None,
) -> None:
    """A pipeline for Kubeflow: each task is a container that runs one stage of a simulated federation."""
    from pipeline.engine.export import kubeflow as writer

    place = PurePosixPath(mount)
    handover = _handover(config, None, place / "workspace", 24.0, ["sottovoce"], place / config.name)
    _write(writer.written(handover, image, claim, mount), out)


def openlineage(
    runs: RunIds = None,
    workspace: Folder = None,
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="Post them to an OpenLineage endpoint, such as Marquez'.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of jobs and data sets.")] = "sottovoce",
    out: Out = None,
) -> None:
    """What was made from what, as OpenLineage events: one JSON object a line."""
    from pipeline.store.exchange.openlineage import events

    made = list(events(_story(runs, workspace), namespace))
    if to is None:
        _write("".join(json.dumps(event) + "\n" for event in made), out)
        return
    _post(made, to)
    typer.echo(f"  {len(made)} events posted to {to}")


def mlmd(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the file and its loader.")],
    runs: RunIds = None,
    workspace: Folder = None,
) -> None:
    """What was made from what, for ML Metadata: lineage.json, and the program that loads it in its environment."""
    from pipeline.store.exchange.mlmd import LOADER, tree

    made = json.dumps(tree(_story(runs, workspace)), indent=1)
    _write(made, out / "lineage.json")
    _write(LOADER.read_text(encoding="utf-8"), out / LOADER.name)
    typer.echo(f"  load it where ml-metadata is installed: python {out / LOADER.name} {out / 'lineage.json'} STORE.db")


def _handover(
    config: Path,
    home: Path | None,
    workspace: Path | PurePosixPath | None,
    hours: float,
    program: list[str],
    there: PurePosixPath | None = None,
) -> Handover:
    """there: where the configuration is when a task runs; None: where it is now."""
    from pipeline.engine.export.handover import Handover, checked_hours
    from pipeline.host.environment import quiet_environment
    from pipeline.language.configfile import load_config, settings_digest

    quiet_environment()
    from pipeline.lifecycle import lifecycle_dag
    from pipeline.store.workspace import DEFAULT
    from privacy.errors import ConfigError

    if home and workspace:
        raise ConfigError("--home runs over a deployed federation, --workspace simulates one", remedy="Leave out one.")
    place = home or workspace or DEFAULT
    settings = load_config(config)
    return Handover(
        name=settings.name,
        program=program,
        verb="run" if home else "simulate",
        config=there or config.absolute(),
        place=place.absolute() if isinstance(place, Path) else place,
        digest=settings_digest(config),
        stages=lifecycle_dag(searching=bool(settings.tuning.space)).order,
        hours=checked_hours(hours),
    )


def _program() -> list[str]:
    """How this program is started from anywhere: a module of the working folder is none of it."""
    return [sys.executable, "-P", "-m", "sottovoce"]


def _story(runs: list[str] | None, workspace: Path | None) -> Story:
    from pipeline.store.exchange.story import Story
    from pipeline.store.workspace import DEFAULT, Workspace

    space = Workspace.existing(workspace or DEFAULT)
    metadata = space.metadata()
    try:
        chosen = [metadata.run(run) for run in runs] if runs else metadata.runs()
        return Story.of(metadata, sorted(chosen, key=lambda run: run.started), space.artifacts())
    finally:
        metadata.close()


def _post(events: list[dict[str, object]], url: str) -> None:
    import urllib.request

    from privacy.errors import CatalogueUnavailable, ConfigError

    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--to {url}: events are posted over HTTP", remedy="Give a URL; a file is --out.")
    try:
        for event in events:
            request = urllib.request.Request(url, json.dumps(event).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30):
                pass
    except (OSError, ValueError) as error:
        raise CatalogueUnavailable(
            f"{url} did not take the events: {error}",
            remedy="Nothing is lost: the same command posts the same events again, under the same ids.",
        ) from None


def _write(text: str, out: Path | None) -> None:
    from privacy.errors import ConfigError

    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", remedy="Choose another place.") from None
    typer.echo(f"  {out} is written", err=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    export = typer.Typer(help="The lifecycle for other orchestrators; lineage for other catalogues.")
    for command in (airflow, kubeflow, beam, openlineage, mlmd):
        export.command()(command)
    app.add_typer(export, name="export", no_args_is_help=True)
