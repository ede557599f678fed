"""What the systems have in common: an environment each, and a small lifecycle to hand over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support import write_config, write_table
from tests.test_cli import sottovoce
from tests.test_parts import charged

ROOT = Path(__file__).parents[2]
ROUNDS = 3


def environment(name: str) -> Path:
    """Its `bin`. `make interop` has made it."""
    return ROOT / f".venv-{name}" / "bin"


def lifecycle(place: Path, **changes: Any) -> Path:
    """A configuration that runs in seconds."""
    return write_config(place / "stay.yaml", write_table(place), training__rounds=ROUNDS, **changes)


def exported(system: str, config: Path, *more: object) -> Path:
    suffix = {"kubeflow": ".yaml"}.get(system, ".py")
    path = config.parent / f"life_{system}{suffix}"
    done = sottovoce("export", system, config, "--out", path, *more)
    assert done.returncode == 0, done.stderr
    return path


def call(command: list[Any], timeout: float = 600, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **env}
    )


def once_each(workspace: Path) -> bool:
    """Whether every client was charged for every round once, and for the rest once."""
    return charged(workspace) == {("evaluate/1", *(f"train/{n}" for n in range(1, ROUNDS + 1)), "validate/1")}
