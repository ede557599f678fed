"""Starting the endpoint, asking it, and stopping it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.host.environment import found_cluster
from pipeline.language.settings.serving import ServingConfig
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, ServingError
from server.evidence.place import note_place
from server.serving.gateway.listening import LOOPBACK, check_port, reserved
from server.serving.keys.keyring import Keyring
from server.serving.traffic.director import Director, directed

STARTING = 120.0
"""Seconds for the replicas to come up."""


@dataclass
class Endpoint:
    """One that runs: where it answers, and who directs it."""

    url: str
    grpc: str | None
    director: Director
    application: str
    held: list[socket.socket]

    def stop(self) -> None:
        """Answer what was asked, then end. Nothing of it stays behind."""
        from ray import serve

        self.director.stop()
        if found_cluster():  # a Ray of our own takes Serve with it when it stops
            serve.delete(self.application)
        for held in self.held:
            held.close()
        folder = self.director.board.folder
        for _ in range(20):  # a replica's last word may come in between
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.05)


def checked(config: ServingConfig, keyring: Keyring) -> None:
    """Raises PortInUse; ConfigError for an endpoint that strangers reach and that asks nobody for a key."""
    if config.host not in LOOPBACK and not keyring.closed:
        raise ConfigError(
            f"{config.host} is reached from other machines, and nobody would be asked for a key",
            remedy="Add one first: sottovoce keys add NAME",
        )
    keyring.all()
    for file in (config.certificate, config.key):
        if file is not None and not file.is_file():
            raise ConfigError(f"there is no file {file}", remedy="serving.certificate and serving.key are PEM files.")
    for port in (config.port, config.grpc_port):
        if port:
            check_port(config.host, port)


def start_endpoint(
    config: ServingConfig, space: Workspace, name: str, tell: Callable[[str], None] = lambda text: None
) -> Endpoint:
    """Start the endpoint on the running Ray. It answers 503 until there is a champion.

    tell: hears each change of what answers. Raises PortInUse, ConfigError, ServingError.
    """
    house = space.root / "serving"
    checked(config, Keyring(house / "keys.json"))
    note_place(space.root, name, config.feedback)
    held = [reserved(config.host, config.port)]
    chosen: dict[str, Any] = {"port": held[0].getsockname()[1]}
    if config.grpc_port is not None:
        held.append(reserved(config.host, config.grpc_port))
        chosen["grpc_port"] = held[1].getsockname()[1]
    config = config.model_copy(update=chosen)
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from server.serving.replica import Replica

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
    board = directed(space.scratch / f"serving-{os.getpid()}")
    director = Director(Registry(space.registry_url, space.models), name, board, config.poll_seconds, tell)
    application = f"sottovoce-{name}"
    serve.start(proxy_location="Disabled", logging_config=quiet)
    if found_cluster() and application in serve.status().applications:
        raise ServingError(
            f"this cluster serves {name} already", remedy="Stop that one, or unset RAY_ADDRESS to use a Ray of its own."
        )
    director.begin()
    replica = Replica.options(  # type: ignore[attr-defined]
        num_replicas=config.replicas,
        ray_actor_options={"num_cpus": 0},
        logging_config=quiet,
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=6,
    )
    serve.run(replica.bind(board, config, house), name=application, route_prefix=None)
    deadline = time.monotonic() + STARTING
    while len(board.reports()) < config.replicas and time.monotonic() < deadline:
        time.sleep(0.02)
    director.start()
    scheme = "https" if config.certificate else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    grpc = None if config.grpc_port is None else f"{host}:{config.grpc_port}"
    return Endpoint(f"{scheme}://{host}:{config.port}", grpc, director, application, held)


def wait_for(url: str, version: int, seconds: float) -> None:
    """Until the endpoint answers with `version`. Raises ServingError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            told = call(f"{url}/readyz")
            if told["version"] == version:
                return
            problem = f"it serves version {told['version']}" + (f": {told['problem']}" if told["problem"] else "")
        except ServingError as error:
            problem = error.cause
        if time.monotonic() > deadline:
            raise ServingError(f"{url} does not serve version {version} after {seconds:.0f} s: {problem}")
        time.sleep(0.1)


def call(url: str, body: dict[str, Any] | None = None, key: str = "", authority: Path | None = None) -> dict[str, Any]:
    """GET, or POST of JSON. authority: of a certificate that is not everybody's. Raises ServingError."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    trust = ssl.create_default_context(cafile=authority) if url.startswith("https") else None
    # The endpoint is ours: no proxy between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise ServingError(f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise ServingError(f"{url} does not answer: {error}") from None
