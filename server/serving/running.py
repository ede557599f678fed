"""Starting the endpoint, asking it, and stopping it."""

from __future__ import annotations

import json
import logging
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.host.environment import found_cluster
from pipeline.language.settings.serving import ServingConfig
from pipeline.store.registry import Registry
from privacy.errors import PortInUse, ServingError

APPLICATION = "sottovoce"


def free_port(host: str) -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Raise PortInUse when somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"{host}:{port} cannot be used: {error.strerror}",
                remedy="Choose another: --set serving.port=PORT, or 0 for a free one.",
            ) from None


def start_endpoint(config: ServingConfig, registry: Registry, name: str) -> str:
    """Start the endpoint on the running Ray and return its address. It answers 503 until there is a champion.

    Raises PortInUse.
    """
    port = config.port or free_port(config.host)
    check_port(config.host, port)
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from server.serving.endpoint import Endpoint

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
    options = HTTPOptions(host=config.host, port=port)
    with ThreadPoolExecutor(max_workers=2) as aside:
        # The proxy, the registry and the replica take seconds each to start; none needs the others for that.
        champion = aside.submit(registry.champion, name)
        proxy = aside.submit(serve.start, http_options=options, logging_config=quiet)
        while not proxy.done() and not serve.status().proxies:
            time.sleep(0.05)
        if proxy.done():
            proxy.result()  # without it Serve would start once more, on a port of its own choice
        endpoint = Endpoint.options(  # type: ignore[attr-defined]
            num_replicas=config.replicas, ray_actor_options={"num_cpus": 0}, logging_config=quiet
        )
        bound = endpoint.bind(registry, name, champion.result(), config.poll_seconds, config.max_rows)
        serve.run(bound, name=APPLICATION, route_prefix="/")
        proxy.result()
    return f"http://{config.host}:{port}"


def stop_endpoint() -> None:
    """Stop Serve on a cluster that goes on living; a Ray of our own takes Serve with it when it stops."""
    if found_cluster():
        from ray import serve

        serve.shutdown()


def wait_for(url: str, version: int, seconds: float) -> None:
    """Until the endpoint answers with `version`. Raises ServingError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            served = call(f"{url}/health")["version"]
            if served == version:
                return
            problem = f"it serves version {served}"
        except ServingError as error:
            problem = error.cause
        if time.monotonic() > deadline:
            raise ServingError(f"{url} does not serve version {version} after {seconds:.0f} s: {problem}")
        time.sleep(0.1)


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST of JSON. Raises ServingError with what the endpoint answered."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the endpoint is ours: no proxy between
    try:
        with opener.open(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise ServingError(f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise ServingError(f"{url} does not answer: {error}") from None
