"""sottovoce serve."""

from __future__ import annotations

import json
import queue
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

WORKSPACE = Annotated[Path | None, typer.Option(help="Folder that holds the registry.")]


def serve(
    name: Annotated[str | None, typer.Argument(help="Model to serve; default: the only one registered.")] = None,
    workspace: WORKSPACE = None,
    settings: Annotated[
        Path | None, typer.Option("--config", help="Configuration of a run: its section `serving`.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: loopback.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP; 0 picks a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of gRPC; 0 picks a free one.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Serve over HTTP and gRPC until Ctrl-C, as the traffic says. Changes are picked up without a restart."""
    from pipeline.engine.cluster import ray_engine
    from pipeline.language.configfile import load_config, parse
    from pipeline.language.settings.serving import ServingConfig
    from pipeline.store.registry import Registry
    from privacy.errors import NoChampion
    from server.naming import chosen_model
    from server.serving.keys.keyring import Keyring
    from server.serving.running import checked, start_endpoint

    space, chosen = chosen_model(workspace, name)
    champion = Registry(space.registry_url, space.models).champion(chosen)
    if champion is None:
        raise NoChampion(
            f"no version of {chosen} is champion", remedy="See why: sottovoce runs list, and the version's metrics."
        )
    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "replicas": replicas,
        "certificate": certificate,
        "key": key,
    }
    base = load_config(settings, []).serving.model_dump() if settings else {}
    tree = {**base, **{name: value for name, value in given.items() if value is not None}}
    config = parse(ServingConfig, tree, "the options")
    checked(config, Keyring(space.root / "serving" / "keys.json"))
    stopped = threading.Event()
    with ray_engine(space.scratch):
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        endpoint = start_endpoint(config, space, chosen, tell=heard.put)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        columns = ", ".join(json.loads(champion.read("schema.json"))["properties"])
        answering = endpoint.director.champion
        typer.echo(f"  {chosen} v{answering} answers at {endpoint.url}/predict      Ctrl-C stops it")
        if endpoint.grpc:
            typer.echo(f"  gRPC       {endpoint.grpc}      Open Inference Protocol, as {endpoint.url}/v2")
        typer.echo(f"  columns    {columns}")
        typer.echo(
            f"  versions   {endpoint.url}/models      ready: {endpoint.url}/readyz      docs: {endpoint.url}/docs"
        )
        while not stopped.wait(0.2):
            while not heard.empty():
                typer.echo(f"  traffic    {heard.get()}")
        endpoint.stop()
    typer.echo("  stopped")


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    from server.serving.keys.cli import keys
    from server.serving.traffic.cli import traffic

    app.command()(serve)
    app.add_typer(traffic, name="traffic")
    app.add_typer(keys, name="keys")
