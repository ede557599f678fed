"""Starting and stopping Ray: local and private by default, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from privacy.errors import EngineUnavailable

OBJECT_STORE = 256 * 1024 * 1024


def quiet_environment() -> None:
    """Settings that Ray, Flower and MLflow read when they are imported; call it before importing any of them.

    Switches off what they would say to the outside, keeps them from installing anything, and gives a local Ray a
    token that only this process and its workers know: its ports are open to every process of the machine.
    """
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # A run starts few workers; those Ray would start beforehand compete with them for the first seconds.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_metrics_collection": "0",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    if not found_cluster() and "ray" not in sys.modules:
        defaults |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def found_cluster() -> bool:
    """Whether RAY_ADDRESS names a cluster that is not ours to stop."""
    return os.environ.get("RAY_ADDRESS") not in (None, "", "local")


@contextmanager
def ray_engine() -> Iterator[None]:
    """Ray for the length of a run. One that was started here is stopped here; one that was found is left running.

    Raises EngineUnavailable.
    """
    quiet_environment()
    address = os.environ.get("RAY_ADDRESS")
    started = not found_cluster()
    if address and not started and address != "auto":
        _check_reachable(address)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if started:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE,
                _node_ip_address="127.0.0.1",
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        raise EngineUnavailable(
            f"Ray could not be {'started' if started else f'reached at {address}'}: {_first_line(error)}",
            remedy="Unset RAY_ADDRESS to start a local Ray, or run `ray stop` to clear one that is left over.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes; a port nobody listens on is known at once."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, ValueError):
        raise EngineUnavailable(
            f"nothing answers at RAY_ADDRESS {address}",
            remedy="Start that cluster, or unset RAY_ADDRESS to start a local Ray.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
