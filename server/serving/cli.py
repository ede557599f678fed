"""sottovoce serve."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer


def serve(
    name: Annotated[str | None, typer.Argument(help="Model to serve; default: the only one registered.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder that holds the registry.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: loopback.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Serve replicas.")] = None,
) -> None:
    """Serve the champion over HTTP until Ctrl-C. A new champion is picked up without a restart."""
    from pipeline.engine.cluster import ray_engine
    from pipeline.language.configfile import parse
    from pipeline.language.settings.serving import ServingConfig
    from pipeline.store.registry import Registry
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import NoChampion, NotFound
    from server.serving.running import check_port, start_endpoint, stop_endpoint

    space = Workspace(workspace or DEFAULT)
    registry = Registry(space.registry_url, space.models)
    names = registry.names()
    chosen = name or (names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names:
        known = ", ".join(names) or "none"
        raise NotFound(
            f"which model? Registered in {space.root}: {known}", remedy="Name one, or train one: sottovoce simulate"
        )
    champion = registry.champion(chosen)
    if champion is None:
        raise NoChampion(
            f"no version of {chosen} is champion", remedy="See why: sottovoce runs list, and the version's metrics."
        )
    given = {"host": host, "port": port, "replicas": replicas}
    config = parse(ServingConfig, {name: value for name, value in given.items() if value is not None}, "the options")
    if config.port:
        check_port(config.host, config.port)
    stopped = threading.Event()
    with ray_engine(space.scratch):
        url = start_endpoint(config, registry, chosen)
        schema = json.loads(champion.read("schema.json"))
        typer.echo(f"  {chosen} v{champion.version} answers at {url}/predict      Ctrl-C stops it")
        typer.echo(f"  columns    {', '.join(schema['properties'])}")
        typer.echo(f"  versions   curl -s {url}/models      health: {url}/health      docs: {url}/docs")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        stopped.wait()
        stop_endpoint()
    typer.echo("  stopped")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(serve)
