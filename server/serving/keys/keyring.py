"""Keys of those who may ask: random, shown once, kept as digests, each for some kinds of questions.

No file, no keys asked for: that is for loopback only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from pipeline.host.locking import locked
from pipeline.kinds import Frozen
from privacy.errors import ConfigError, NotFound

Role = Literal["predict", "feedback", "operate"]
"""predict: ask. feedback: say what became of a prediction. operate: see measurements."""
ROLES: tuple[Role, ...] = get_args(Role)
PREFIX = "sv_"


class Key(Frozen):
    """Whose it is and what for; the key itself is nowhere."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    digest: str
    roles: tuple[Role, ...]
    made: float


class Keys(Frozen):
    """All of an endpoint."""

    keys: tuple[Key, ...] = ()


class Keyring:
    """The file of keys of a workspace; looked at anew when it has changed: a key can be replaced at any time."""

    def __init__(self, path: Path, always: bool = False) -> None:
        """always: ask for a key also when the file is away, as where strangers come by."""
        self.path, self._name, self._always = path, str(path), always
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Key] = {}

    def add(self, name: str, roles: tuple[Role, ...]) -> str:
        """A new key. Several may have one name, so that the old one works until the new one is in place."""
        key = PREFIX + secrets.token_urlsafe(32)
        try:
            made = Key(name=name, digest=_digest(key), roles=roles, made=time.time())
        except ValueError:
            raise ConfigError(
                f"{name!r} is no name for a key", remedy="Up to 64 letters, digits, dots, dashes and underscores."
            ) from None
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.path.with_name(".keys.lock")):
            self._write(Keys(keys=(*self.all(), made)))
        return key

    def remove(self, name: str, but_newest: bool) -> int:
        """Keys of that name, or all but the newest; how many. Raises NotFound."""
        with locked(self.path.with_name(".keys.lock")):
            found = sorted((key for key in self.all() if key.name == name), key=lambda key: key.made)
            if not found:
                raise NotFound(f"there is no key {name}", remedy="See those there are: sottovoce keys list")
            gone = found[:-1] if but_newest else found
            self._write(Keys(keys=tuple(key for key in self.all() if key not in gone)))
        return len(gone)

    def all(self) -> tuple[Key, ...]:
        """Raises ConfigError when the file is none of ours: nobody is let in by a file that cannot be read."""
        try:
            return Keys.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except ValueError:
            raise ConfigError(
                f"{self.path} holds no keys that could be read", remedy="Restore it, or remove it and add keys anew."
            ) from None

    @property
    def closed(self) -> bool:
        """Whether a key is asked for."""
        return self._always or os.path.exists(self._name)  # noqa: PTH110  # before each question: a Path costs twice that

    def who(self, told: str) -> Key | None:
        """Whose key it is. By digest, so that how long a look-up takes says nothing about keys."""
        try:
            found = self.path.stat()
            if (stamp := (found.st_ino, found.st_mtime_ns)) != self._stamp:
                self._known = {key.digest: key for key in self.all()}
                self._stamp = stamp
        except (OSError, ConfigError):
            self._known, self._stamp = {}, None
        return self._known.get(_digest(told))

    def _write(self, keys: Keys) -> None:
        building = self.path.with_name(f".keys.{secrets.token_hex(4)}")
        building.touch(mode=0o600)
        building.write_text(keys.model_dump_json(indent=1))
        os.replace(building, self.path)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
