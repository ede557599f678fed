"""Runs the tasks of one SuperNode, each in a fork of this process: the libraries are imported once, not per message.

    python -m clients.executor RUNTIME_ADDRESS SECRET_FILE

A fresh Python that imports torch, Opacus, TenSEAL and pandas takes 9 to 12 s; a fork takes milliseconds, and a crash in
it leaves the others alone. Flower's own SuperExec does the talking; only its way to launch a task is replaced (private
API of flwr: flwr.supercore.superexec, flwr.supernode.runtime).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.environment import quiet_environment

if TYPE_CHECKING:
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

IMPORTED = (
    *("clients.app", "clients.enrolment", "clients.keyring", "clients.ingestion", "clients.validation"),
    *("clients.preprocessing", "clients.training", "clients.evaluation", "clients.reveal"),
    *("privacy.seal", "dp_accounting.pld", "dp_accounting.rdp", "flwr.supernode.runtime.run_clientapp"),
    "torch._dynamo",  # which the first optimizer of a process imports
)
"""What messages need and what is slow to import."""


class ForkingExecutor:
    """Flower's Executor protocol: one fork a task, one task at a time."""

    def __init__(self) -> None:
        self._child: int | None = None

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], *, insecure: bool = False, root_certificates_path: str | None = None
    ) -> tuple[set[TaskType], set[str]]:
        """A client's home takes one message at a time."""
        self.reconcile()
        return (supported_task_types if self._child is None else set()), set()

    def wait_for_capacity(
        self,
        task_type: TaskType | None = None,
        *,
        fab_hash: str | None = None,
        insecure: bool = False,
        root_certificates_path: str | None = None,
    ) -> None:
        """Capacity is asked for, not waited for."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Fork, and run the task in the child. Anything but a ClientApp's task is refused."""
        from flwr.supercore.constant import TaskType
        from flwr.supercore.superexec.executor.types import LaunchResult

        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed("only ClientApp tasks run here")
        pid = os.fork()
        if pid == 0:
            self._run(spec)
        self._child = pid
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Collect the child that has ended."""
        if self._child is not None and os.waitpid(self._child, os.WNOHANG)[0]:
            self._child = None

    def close(self) -> None:
        if self._child is not None:
            os.kill(self._child, signal.SIGTERM)

    @staticmethod
    def _run(spec: ExecutionSpec) -> None:
        from flwr.supernode.runtime.run_clientapp import run_clientapp

        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            run_clientapp(
                runtime_api_address=spec.runtime_api_address,
                token=spec.token,
                insecure=spec.insecure,
                parent_pid=os.getppid(),
                runtime_dependency_install=False,
            )
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # the fork must not run on as a second executor
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def run_what_is_installed() -> None:
    """Take from Flower the two steps by which a bundle brings code: it is neither unpacked nor imported."""
    task = import_module("flwr.supernode.runtime.run_clientapp")
    app = import_module("clients.app").app
    task.install_from_fab = lambda *_, **__: None  # type: ignore[attr-defined]
    task.get_load_client_app_fn = lambda *_, **__: lambda *_, **__: app  # type: ignore[attr-defined]


def main(runtime: str, secret: Path) -> None:
    quiet_environment()
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "0.1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for module in IMPORTED:
        import_module(module)
    run_what_is_installed()
    superexec = import_module("flwr.supercore.superexec.run_superexec")
    gc.freeze()  # the forks share these pages
    superexec.get_executor = lambda *_, **__: ForkingExecutor()  # type: ignore[attr-defined]
    superexec.run_superexec(
        runtime_api_address=runtime,
        insecure=True,
        superexec_auth_secret=secret.read_bytes(),
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
