"""Starting and stopping Ray: local and private by default, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.environment import found_cluster, quiet_environment
from privacy.errors import EngineUnavailable

OBJECT_STORE = 100 * 1024 * 1024
"""Bytes. Replies stream and are freed; what does not fit goes to disk. Pages once used stay resident."""
REAL_HOME = "SOTTOVOCE_HOME"


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
            with _no_cloud_probe():
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


@contextmanager
def _no_cloud_probe() -> Iterator[None]:
    """Keep Ray from asking three clouds where it runs, which it does even with usage statistics off.

    It does not ask when it finds a cluster launcher's file in the home folder, so the daemons get a home that has one.
    Workers inherit that home from them: `restore_home` puts the real one back.
    """
    real = os.environ.get("HOME")
    folder = tempfile.mkdtemp(prefix="sottovoce-ray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "ray_bootstrap_config.yaml").write_text("cluster_name: local\nprovider: {type: local}\n")
    os.environ["HOME"] = folder
    if real is not None:
        os.environ[REAL_HOME] = real
    try:
        yield
    finally:
        os.environ.pop("HOME")
        if real is not None:
            os.environ["HOME"] = real


def restore_home() -> None:
    """In a worker of a local Ray: the home folder of the person who started the run."""
    if real := os.environ.pop(REAL_HOME, None):
        os.environ["HOME"] = real


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
