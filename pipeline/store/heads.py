"""The newest head of each client's ledger that was seen, in any run: what it shows next has to follow it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import sqlalchemy as sa

from pipeline.store.schema import heads as table
from pipeline.store.schema import opened


class Heads:
    """In the metadata store."""

    def __init__(self, url: str) -> None:
        """Raises StorageNewer for a store that a newer version has written."""
        self._engine = opened(url)

    def close(self) -> None:
        self._engine.dispose()

    def head(self, client: str) -> str | None:
        """The newest ledger head that a client published, in any run; not one that an earlier version sent bare."""
        with self._engine.connect() as db:
            head = db.execute(sa.select(table.c.head).where(table.c.client == client)).scalar_one_or_none()
        return head if head and len(head) == 32 else None

    def note(self, heads: Mapping[str, str]) -> None:
        """Keep them by client: a ledger that lacks its own later was deleted or restored from a backup."""
        if not heads:
            return
        rows = [{"client": client, "head": head, "time": time.time()} for client, head in heads.items()]
        with self._engine.begin() as db:
            db.execute(sa.delete(table).where(table.c.client.in_(heads)))
            db.execute(sa.insert(table), rows)
