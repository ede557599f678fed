"""One line of JSON for what an operator may want to know later. Never a row, never a key."""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
from pathlib import Path

FIELDS = ("request", "route", "status", "version", "cause")
LARGEST = 5 * 2**20
"""Bytes of a file, of which two are kept."""


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        told = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(told | {name: getattr(record, name) for name in FIELDS if hasattr(record, name)})


def to_file(path: Path) -> None:
    """What `sottovoce.serving` logs in this process goes to a file of mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LARGEST, backupCount=1)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("sottovoce.serving")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
