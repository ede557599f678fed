"""How much an admitted client may send: what its action can need, so that no single reply fills the SuperLink.

A reply is announced (`push-messages`) and then sent in objects of a few megabytes (`push-object`). The driver of a run
writes down what a reply of it can weigh; a client that sends more is cut off until it announces another one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from pipeline.host.files import write_atomically

WITHOUT_A_RUN = 32 * 1024 * 1024
"""Bytes of a reply while no run says what it needs."""
SLACK = 8 * 1024 * 1024
"""Beside the sealed vector: documents, keys for a thousand members, what is sent twice."""
REPLIES = 30
"""Announcements of one client a minute: a client answers one request after the other."""
FILE = "reply.json"

LARGEST_CALL = 256 * 1024
LARGEST = {"push-object": 8 * 1024 * 1024, "push-messages": 2 * 1024 * 1024}
"""Bytes of one call. Flower cuts arrays into objects of 5 MiB."""


def note_reply(home: Path, size: int) -> None:
    """By the driver: the largest vector that a reply of this run holds, in bytes."""
    write_atomically(home / FILE, json.dumps({"bytes": size}).encode())


class Allowance:
    """Of every client."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._sent: dict[str, int] = {}
        self._announced: dict[str, list[float]] = {}

    @property
    def reply(self) -> int:
        """Bytes that one reply may have now."""
        try:
            return int(json.loads(self._path.read_text())["bytes"]) * 5 // 4 + SLACK
        except (OSError, ValueError, KeyError, TypeError):
            return WITHOUT_A_RUN

    def begin(self, name: str, call: str) -> bool:
        """Whether this call may begin."""
        if call == "push-messages":
            now = time.monotonic()
            recent = [when for when in self._announced.get(name, []) if now - when < 60]
            if len(recent) >= REPLIES:
                return False
            self._announced[name] = [*recent, now]
            self._sent[name] = 0
        return call != "push-object" or self._sent.get(name, 0) <= self.reply

    def take(self, name: str, call: str, size: int) -> bool:
        """Count bytes of a call; whether they are still allowed."""
        if call != "push-object":
            return True
        self._sent[name] = self._sent.get(name, 0) + size
        return self._sent[name] <= self.reply
