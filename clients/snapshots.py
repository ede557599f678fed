"""Which snapshots of the data source a client keeps: those of the source as it is now, and nothing older.

What the owner took out of the source is gone from here with the next snapshot, and is not trained on in between:
whoever reads a snapshot first makes sure that the source is still the one it was taken from. `present.json` in the
home says which source that was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.host.files import read_json, write_atomically
from privacy.errors import SourceChanged

if TYPE_CHECKING:
    import pandas as pd

    from clients.sources.source import Source

_CHANGED = "this client does not have that: its data source has changed since, or its owner had it removed"
_AGAIN = "Take a new one: run the same command again."


class Snapshots:
    """Of one home. What is made from a snapshot lies in its own folder, so that it goes with it."""

    def __init__(self, root: Path, source: Source, digest: Callable[..., str], place_key: bytes) -> None:
        """root: the home. source: where the data lie. digest: the home's keyed one."""
        self._root, self._source, self._digest, self._place_key = root, source, digest, place_key
        self._folder, self._present = root / "snapshots", root / "present.json"

    def folder(self, snapshot: str) -> Path:
        return self._folder / snapshot

    def features(self, snapshot: str, features: str) -> Path:
        """Where features made from a snapshot are kept."""
        return self.folder(snapshot) / "features" / features

    def refresh(self) -> str:
        """See whether the source is the one of last time; if not, remove what was made of that one.

        Its epoch: a random name that nothing else has, so that a source that changes and comes back is another one.
        Raises SourceMissing.
        """
        known, seen = self._known(), self._source.seen()
        if known and seen is not None and known["seen"] == seen:
            return str(known["epoch"])
        file = self._file()
        same = file is not None and known.get("file") == file
        records = None if same else self._records(self._source.read())
        if known and (same or known.get("records") == records):
            self._write({**known, "seen": seen, "file": file})
        else:
            self._begin(seen, file, records)
        return str(self._known()["epoch"])

    def keep(self, snapshot: str, source: pd.DataFrame) -> None:
        """Note a snapshot of the source as it is now, and which records that has."""
        known = self._known()
        snapshots = sorted({*known["snapshots"], snapshot})
        self._write({**known, "records": self._records(source), "snapshots": snapshots})

    def current(self, snapshot: str) -> Path:
        """The folder of a snapshot of the source as it is now. Raises SourceMissing, SourceChanged."""
        self.refresh()
        if snapshot not in self._known()["snapshots"]:
            raise self.outdated()
        return self.folder(snapshot)

    def outdated(self) -> SourceChanged:
        """Something made from a snapshot is not here: the source has changed since, or its owner has had it removed."""
        return SourceChanged(_CHANGED, remedy=_AGAIN, travels=True)

    def forget(self) -> int:
        """Remove every snapshot and all that was made from them; how many there were."""
        every = len(list(self._every()))
        self._begin(self._source.seen(), self._file(), None)
        return every

    def _begin(self, seen: str | None, file: str | None, records: str | None) -> None:
        """A new epoch, without any snapshot."""
        self._write({"seen": seen, "file": file, "records": records, "epoch": secrets.token_hex(16), "snapshots": []})
        for folder in self._every():
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._root / "features", ignore_errors=True)  # where earlier versions kept them

    def _file(self) -> str | None:
        """Digest of what is in its files; None: it has none."""
        digests = []
        for path in self._source.files:
            with open(path, "rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
        return self._digest(b"source", *digests) if digests else None

    def _records(self, source: pd.DataFrame) -> str:
        """The same for the same records under the same columns, in whatever order and file they stand."""
        from clients.places import basis_of_places, places

        return self._digest(basis_of_places(source).encode(), np.sort(places(source, self._place_key)).tobytes())

    def _every(self) -> Iterator[Path]:
        if self._folder.exists():
            yield from sorted(self._folder.iterdir())

    def _known(self) -> dict[str, Any]:
        known = read_json(self._present) if self._present.exists() else {}
        return known if "epoch" in known else {}

    def _write(self, known: dict[str, Any]) -> None:
        write_atomically(self._present, json.dumps(known).encode())
