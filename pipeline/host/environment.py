"""What libraries below read from the environment when they are imported: quiet, offline, and private to this run."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


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
        # Arrays of a model and its ciphertexts go back to the system when a worker is done with them.
        "MALLOC_MMAP_THRESHOLD_": "4000000",
        "MALLOC_TRIM_THRESHOLD_": "4000000",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    if not found_cluster() and "ray" not in sys.modules:
        defaults |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # Ray replaces a loopback address by the machine's own, and then listens everywhere, unless clusters are off.
        defaults |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def found_cluster() -> bool:
    """Whether RAY_ADDRESS names a cluster that is not ours to stop."""
    return os.environ.get("RAY_ADDRESS") not in (None, "", "local")


OWN_CODE = "SOTTOVOCE_OWN_CODE"
"""Folder of classes that stand beside a configuration: for this process and those it starts."""


def admit_own_code(folder: Path) -> None:
    """Modules in `folder` can be named by a configuration from now on, in this process and those it starts."""
    os.environ[OWN_CODE] = str(folder.resolve())


def find_own_code() -> None:
    """Look for modules there too: last, so that none of them takes the place of another."""
    folder = os.environ.get(OWN_CODE)
    if folder and folder not in sys.path:
        sys.path.append(folder)
