"""Whose public keys this client knows: `roster.json` in its home, name -> fingerprint.

A coordinator relays the keys of a run's members and could put its own in their place. A name that stands in the file
is admitted under that fingerprint only. A name that does not is written down the first time it is seen, as ssh does;
an owner who has compared fingerprints by telephone writes them down beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import read_json, write_atomically
from privacy.errors import KeyMismatch
from privacy.keys import Roster


class KnownClients:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fingerprints(self) -> dict[str, str]:
        return {name: str(value) for name, value in read_json(self._path).items()} if self._path.exists() else {}

    def pin(self, fingerprints: Mapping[str, str]) -> None:
        """Write fingerprints down; names already known keep theirs unless given anew."""
        known = self.fingerprints()
        if (merged := {**known, **fingerprints}) != known:
            write_atomically(self._path, json.dumps(dict(sorted(merged.items())), indent=1).encode())

    def admit(self, roster: Roster) -> None:
        """Raise KeyMismatch if a member has other keys than this client knows; pin those it does not know."""
        known = self.fingerprints()
        for name, keys in sorted(roster.items()):
            if known.get(name, keys.fingerprint) != keys.fingerprint:
                raise KeyMismatch(
                    f"{name} shows the key {keys.fingerprint}; known here is {known[name]}",
                    remedy=f"Ask its owner for the fingerprint; if the key is new, correct {self._path.name}.",
                    travels=True,
                )
        self.pin({name: keys.fingerprint for name, keys in roster.items()})
