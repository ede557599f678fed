"""Whose public keys this client knows: `roster.json` in its home.

A coordinator relays the keys of a run's members; it could put its own in their place, and members that do not exist
among them. So a name counts as known when its *owner's* fingerprint was compared by people, and was pinned by the
owner of this client. A name that was merely met is written down too, as ssh does: under another key it is refused,
but it makes no cohort larger and no noise smaller.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter

from pipeline.host.files import write_atomically
from pipeline.kinds import Frozen
from privacy.errors import ClientUnknown, ConfigError, KeyMismatch, NotFound
from privacy.keys import PublicRoster


class Known(Frozen):
    """One client. by: who vouches for the fingerprint; `met`: nobody yet."""

    fingerprint: str = Field(max_length=64)
    by: Literal["owner", "met"]


_Entries = TypeAdapter(dict[str, Known])


class KnownClients:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> dict[str, Known]:
        """Raises ConfigError when the file was damaged."""
        if not self._path.exists():
            return {}
        try:
            tree = json.loads(self._path.read_text())
            return _Entries.validate_python(
                {
                    name: {"fingerprint": value, "by": "met"} if isinstance(value, str) else value
                    for name, value in tree.items()
                }
            )
        except (ValueError, AttributeError):
            raise ConfigError(f"{self._path} is not a readable roster", remedy="Put it back, or pin anew.") from None

    def pinned(self, names: Iterable[str]) -> int:
        """How many of `names` the owner knows."""
        entries = self.entries()
        return sum(name in entries and entries[name].by == "owner" for name in set(names))

    def pin(self, fingerprints: Mapping[str, str]) -> None:
        """By the owner: these are theirs, whatever was met before."""
        self._write({name: Known(fingerprint=value, by="owner") for name, value in fingerprints.items()})

    def remove(self, name: str) -> None:
        """By the owner. Raises NotFound."""
        entries = self.entries()
        if name not in entries:
            raise NotFound(f"no client {name} is known here", remedy="See: sottovoce client roster list")
        del entries[name]
        self._store(entries)

    def check(self, roster: PublicRoster, *, known_only: bool) -> dict[str, str]:
        """Raise KeyMismatch if a member has other keys than this client knows, ClientUnknown if its owner knows only
        some of them and demands to know all. Returns the fingerprints of those that were never met."""
        entries, new = self.entries(), {}
        for name, keys in sorted(roster.items()):
            known = entries.get(name)
            if known is None or (known_only and known.by == "met"):
                new[name] = keys.fingerprint
            elif known.fingerprint != keys.fingerprint:
                raise KeyMismatch(
                    f"{name} shows the key {keys.fingerprint}; known here is {known.fingerprint}",
                    remedy=f"Ask its owner for the fingerprint; if the key is new: sottovoce client roster pin {name}",
                    travels=True,
                )
        strangers = sorted(new)
        if known_only and strangers:
            raise ClientUnknown(
                f"its owner has not compared the fingerprint of {', '.join(strangers[:5])}"
                + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""),
                remedy="Its owner pins their cards once they are compared: sottovoce client roster pin CARD.",
                travels=True,
            )
        return new

    def meet(self, fingerprints: Mapping[str, str], most: int = 10_000) -> None:
        """Write down who was met for the first time, at most so many in all: anyone can make up names."""
        entries = self.entries()
        fresh = [name for name in fingerprints if name not in entries][: max(0, most - len(entries))]
        if fresh:
            self._write({name: Known(fingerprint=fingerprints[name], by="met") for name in fresh})

    def _write(self, changed: Mapping[str, Known]) -> None:
        entries = self.entries()
        if (merged := {**entries, **changed}) != entries:
            self._store(merged)

    def _store(self, entries: Mapping[str, Known]) -> None:
        write_atomically(self._path, _Entries.dump_json(dict(sorted(entries.items())), indent=1))
