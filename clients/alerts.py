"""What this client refused, and how often: where its owner sees that a coordinator asks what it should not."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import Field, TypeAdapter

from pipeline.host.files import write_atomically
from pipeline.kinds import Frozen

KEPT = 50
"""Kinds of refusals; who asks for ever new things must not fill a disk."""


class Alert(Frozen):
    """Refusals of one kind. asked: by whom, and said: what was refused, the last time."""

    code: str
    action: str
    times: int = Field(ge=1)
    first: float
    last: float
    asked: str
    said: str = ""


_Alerts = TypeAdapter(list[Alert])


class Alerts:
    """Newest last."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def every(self) -> list[Alert]:
        try:
            return _Alerts.validate_json(self._path.read_bytes())
        except (OSError, ValueError):
            return []

    def note(self, code: str, action: str, asked: str, said: str) -> None:
        """Count one more refusal."""
        now, kept = round(time.time(), 3), []
        alert = Alert(code=code, action=action, times=1, first=now, last=now, asked=asked, said=said[:200])
        for one in self.every():
            if (one.code, one.action) == (code, action):
                alert = alert.model_copy(update={"times": one.times + 1, "first": one.first})
            else:
                kept.append(one)
        write_atomically(self._path, _Alerts.dump_json([*kept[-KEPT + 1 :], alert]))
