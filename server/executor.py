"""Runs the drivers of a SuperLink's runs in forks (pipeline.host.forking), one run after the other.

No code that a bundle brings is unpacked or run: whoever reaches the SuperLink can ask for a run of the lifecycle, and
for nothing else.

    python -m server.executor RUNTIME_ADDRESS SECRET_FILE CA_FILE HOME
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

from pipeline.host.environment import quiet_environment
from pipeline.host.forking import ForkingExecutor, execute_forever
from privacy.errors import ConfigError

if TYPE_CHECKING:
    from flwr.supercore.superexec.executor.types import ExecutionSpec

IMPORTED = ("ray", "server.app", "tenseal", "mlflow", "flwr.superlink.runtime.run_serverapp")


def drive(home: Path, spec: ExecutionSpec) -> None:
    """One run, by the app that is installed here: Flower's steps to unpack and load a bundle are taken away.

    Whoever reaches the SuperLink can submit any run config. Of it only the name of a configuration counts that `home`
    already has; workspace and roster are those of the home.

    Private API of flwr: flwr.superlink.runtime.run_serverapp.
    """
    task: Any = import_module("flwr.superlink.runtime.run_serverapp")
    from server.app import app

    task.install_from_fab = lambda *_, **__: None
    task.get_project_config = lambda *_, **__: {"tool": {"flwr": {"app": {"components": {"serverapp": ""}}}}}
    task.get_fused_config_from_dir = lambda _, overrides: dict(overrides)

    def run(grid: Any, context: Any, **_: Any) -> Any:
        context.run_config = settings_of(home, context.run_config)
        app(grid=grid, context=context)
        return context

    task.run_ = run
    authority = spec.root_certificates_path
    task.run_serverapp(
        runtime_api_address=spec.runtime_api_address,
        log_queue=Queue(),
        token=spec.token,
        insecure=spec.insecure,
        certificates=Path(authority).read_bytes() if authority else None,
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )


def settings_of(home: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The run config of a run of this home. Raises ConfigError for a configuration that was not submitted here."""
    name = Path(str(asked.get("config", ""))).name
    if not re.fullmatch(r"[0-9a-f]{16}\.yaml", name) or not (home / "runs" / name).is_file():
        raise ConfigError("the run names no configuration of this coordinator", remedy="Submit it: sottovoce run")
    return {
        "config": str(home / "runs" / name),
        "workspace": str(home / "workspace"),
        "roster": str(home / "roster.json"),
        "run": str(asked.get("run", "")),
        "of": of if re.fullmatch("[0-9a-f]{8}", of := str(asked.get("of", ""))) else "",
        "until": str(asked.get("until", "")),
    }


def main(runtime: str, secret: Path, authority: Path, home: Path) -> None:
    quiet_environment()
    from flwr.supercore.constant import TaskType

    executor = ForkingExecutor(TaskType.SERVER_APP, partial(drive, home))
    execute_forever(executor, runtime, secret, authority, IMPORTED)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
