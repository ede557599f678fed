"""Runs the messages of one SuperNode in forks (pipeline.host.forking). No code that a bundle brings is unpacked or run.

python -m clients.node.executor RUNTIME_ADDRESS SECRET_FILE
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.host.environment import quiet_environment
from pipeline.host.forking import ForkingExecutor, execute_forever

if TYPE_CHECKING:
    from flwr.supercore.superexec.executor.types import ExecutionSpec

IMPORTED = (
    *("clients.app", "clients.enrolment", "clients.keyring", "clients.ingestion", "clients.validation"),
    *("clients.preprocessing", "clients.training", "clients.evaluation", "clients.reveal"),
    *("privacy.seal", "dp_accounting.pld", "dp_accounting.rdp", "flwr.supernode.runtime.run_clientapp"),
    "torch._dynamo",  # which the first optimizer of a process imports
)
"""What messages need and what is slow to import."""


def answer(spec: ExecutionSpec) -> None:
    """One message, by the app that is installed here: Flower's steps to unpack and load a bundle are taken away.

    Private API of flwr: flwr.supernode.runtime.run_clientapp.
    """
    task = import_module("flwr.supernode.runtime.run_clientapp")
    from clients.app import app

    task.install_from_fab = lambda *_, **__: None  # type: ignore[attr-defined]
    task.get_load_client_app_fn = lambda *_, **__: lambda *_, **__: app  # type: ignore[attr-defined]
    task.run_clientapp(
        runtime_api_address=spec.runtime_api_address,
        token=spec.token,
        insecure=spec.insecure,
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )


def main(runtime: str, secret: Path) -> None:
    quiet_environment()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from flwr.supercore.constant import TaskType

    execute_forever(ForkingExecutor(TaskType.CLIENT_APP, answer), runtime, secret, None, IMPORTED)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
