"""Runs the tasks of a SuperLink or SuperNode, each in a fork of this process: libraries are imported once.

A fresh Python that imports torch, Opacus, TenSEAL and pandas takes 9 to 12 s; a fork takes milliseconds, and a crash in
it leaves the others alone. Flower's own SuperExec does the talking; only its way to launch a task is replaced (private
API of flwr: flwr.supercore.superexec).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.host.pace import TASK_PAUSE, Pace, pull_eagerly

if TYPE_CHECKING:
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

Work = Callable[["ExecutionSpec"], None]


class ForkingExecutor:
    """Flower's Executor protocol: one fork a task, one task at a time."""

    def __init__(self, kind: TaskType, work: Work) -> None:
        """work: what the fork does for a task of this kind; anything else is refused."""
        self._kind, self._work = kind, work
        self._child: int | None = None

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], *, insecure: bool = False, root_certificates_path: str | None = None
    ) -> tuple[set[TaskType], set[str]]:
        """A home takes one task at a time."""
        self.reconcile()
        return (supported_task_types & {self._kind} if self._child is None else set()), set()

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
        """Fork, and run the task in the child."""
        from flwr.supercore.superexec.executor.types import LaunchResult

        if spec.task_type != self._kind:
            return LaunchResult.failed(f"only tasks of kind {self._kind} run here")
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

    def _run(self, spec: ExecutionSpec) -> None:
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._work(spec)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # the fork must not run on as a second executor
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def execute_forever(
    executor: ForkingExecutor, runtime: str, secret: Path, authority: Path | None, imported: Iterable[str]
) -> None:
    """Import what tasks need, then fork for each task of the runtime API. authority: None where it speaks no TLS."""
    for module in imported:
        import_module(module)
    pull_eagerly()
    superexec = import_module("flwr.supercore.superexec.run_superexec")
    gc.freeze()  # the forks share these pages
    pace = Pace(TASK_PAUSE)
    executor.launch = pace.watching(executor.launch)  # type: ignore[method-assign]
    superexec.time = pace  # type: ignore[attr-defined]
    superexec.get_executor = lambda *_, **__: executor  # type: ignore[attr-defined]
    superexec.run_superexec(
        runtime_api_address=runtime,
        insecure=authority is None,
        root_certificates_path=str(authority) if authority else None,
        superexec_auth_secret=secret.read_bytes(),
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )
