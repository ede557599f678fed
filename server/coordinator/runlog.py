"""What the driver of a run has written, and following it to the run's end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPORT, ERROR, END = "Report", "Error", "End"
"""Lines that are no events. A log without `End` while nobody holds the workspace was cut off, and is resumed."""


def log_of(workspace: Path, run: str) -> Path:
    """Where the driver of a run writes what happens."""
    return workspace / f"run-{run}.jsonl"


class RunLog:
    """Lines of JSON that grow; a line that is not whole is not there yet."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._at)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            try:
                fields = json.loads(line)
            except ValueError:  # a disk that was full tore it
                continue
            if isinstance(fields, dict):
                yield fields

    @property
    def ended(self) -> bool:
        """Whether the driver has said its last word."""
        if not self.path.exists():
            return False
        with open(self.path, "rb") as file:
            file.seek(max(0, self.path.stat().st_size - 200))
            last = file.read()
        return last.endswith(b"\n") and f'"event": "{END}"'.encode() in last.splitlines()[-1]
