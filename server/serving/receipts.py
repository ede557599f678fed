"""Prediction ids: what a caller shows to say what became of it. They name version and rows, and nobody else can make
one, so that nothing need be stored for a prediction that nobody comes back to."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pipeline.host.locking import locked

_ID = re.compile(r"v(\d{1,9})-(\d{1,6})-([0-9a-f]{16})-([0-9a-f]{16})")


@dataclass(frozen=True)
class Prediction:
    """What an id says: the version that answered, and how many rows."""

    version: int
    rows: int


class Receipts:
    """Made and checked with one secret of the workspace, mode 0600."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                building = path.with_name(f".{path.name}.new")
                building.touch(mode=0o600)
                building.write_bytes(secrets.token_bytes(32))
                building.replace(path)
        self._secret = path.read_bytes()

    def made(self, version: int, rows: int) -> str:
        said = f"v{version}-{rows}-{secrets.token_hex(8)}"
        return f"{said}-{self._tag(said)}"

    def read(self, told: str) -> Prediction | None:
        """None: it was not made here."""
        if not (found := _ID.fullmatch(told)):
            return None
        said, _, tag = told.rpartition("-")
        known = hmac.compare_digest(tag, self._tag(said))
        return Prediction(int(found[1]), int(found[2])) if known else None

    def _tag(self, said: str) -> str:
        return hmac.digest(self._secret, said.encode(), "sha256").hex()[:16]
