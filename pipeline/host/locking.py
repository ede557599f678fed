"""Files that one process at a time holds. A process that dies, however it dies, lets go."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

GLANCE_SECONDS = 0.05


@contextmanager
def locked(path: Path, busy: Exception | None = None) -> Iterator[TextIO]:
    """Hold `path`, open to read and append. busy: raised when another holds it; None: wait until it lets go."""
    with open(path, "a+") as file:
        if busy is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        elif not _taken(file, fcntl.LOCK_EX):
            time.sleep(GLANCE_SECONDS)  # somebody may only have looked
            if not _taken(file, fcntl.LOCK_EX):
                raise busy
        yield file


def is_locked(path: Path) -> bool:
    """Whether a process holds `path` now."""
    if not path.exists():
        return False
    with open(path) as file:
        return not _taken(file, fcntl.LOCK_SH)


def _taken(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
