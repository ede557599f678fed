"""Executions that are over, for ever: their keys are gone, and no coordinator can begin them again.

Beside the ledger, because it holds as long: an execution whose folder was removed could else be begun anew under a
recorded key offer, and a second sum of it be opened.
"""

from __future__ import annotations

import os
from pathlib import Path


class EndedExecutions:
    """One id a line; append-only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, execution: str) -> bool:
        return self._path.exists() and execution in self._path.read_text().split()

    def add(self, execution: str) -> None:
        """On disk when this returns."""
        if execution in self:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as out:
            out.write(f"{execution}\n")
            out.flush()
            os.fsync(out.fileno())
