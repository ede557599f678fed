"""The long-term identity of a client: an X25519 key to agree on secrets and an Ed25519 key to sign, in one file.

The file has mode 0600 in the client's home. The two public keys travel; their fingerprint is what people compare.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.errors import ConfigError, SecretExposed, SumRejected

KEY_BYTES = 32


@dataclass(frozen=True)
class PublicKeys:
    """What others know of a client: `exchange` is X25519, `signing` is Ed25519; 32 bytes each."""

    exchange: bytes
    signing: bytes

    @classmethod
    def from_hex(cls, text: str) -> PublicKeys:
        """From `hex`. Raises ValueError for anything but 64 bytes."""
        content = bytes.fromhex(text)
        if len(content) != 2 * KEY_BYTES:
            raise ValueError("public keys have 64 bytes")
        return cls(content[:KEY_BYTES], content[KEY_BYTES:])

    def hex(self) -> str:
        """Both keys, as they travel."""
        return (self.exchange + self.signing).hex()

    @property
    def fingerprint(self) -> str:
        """128 bits as 32 hex digits in groups of four, to be read aloud."""
        digest = hashlib.sha256(b"sottovoce identity" + self.exchange + self.signing).hexdigest()[:32].upper()
        return " ".join(digest[at : at + 4] for at in range(0, 32, 4))

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Whether `signature` is this client's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


PublicRoster = Mapping[str, PublicKeys]
"""Client name -> its public keys."""


class Identity:
    """The long-term keys of one client."""

    def __init__(self, secret: bytes) -> None:
        """secret: 64 bytes, the private keys of `exchange` and `signing`. Raises ValueError for another length."""
        self._exchange = X25519PrivateKey.from_private_bytes(secret[:KEY_BYTES])
        self._signing = Ed25519PrivateKey.from_private_bytes(secret[KEY_BYTES:])
        self.public = PublicKeys(
            self._exchange.public_key().public_bytes_raw(), self._signing.public_key().public_bytes_raw()
        )

    @classmethod
    def create(cls, path: Path) -> Identity:
        """A new identity, written to `path` with mode 0600."""
        secret = X25519PrivateKey.generate().private_bytes_raw() + Ed25519PrivateKey.generate().private_bytes_raw()
        write_secret(path, secret)
        return cls(secret)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Raises SecretExposed when others may read the key, ConfigError when it is none."""
        secret = read_secret(path)
        if len(secret) != 2 * KEY_BYTES:
            raise ConfigError(f"{path} is not an identity key", remedy="Put it back from its safe place.")
        return cls(secret)

    def exchange(self, other: bytes) -> bytes:
        """The X25519 shared secret with the owner of `other`. Raises SumRejected for a key that is not one."""
        try:
            return self._exchange.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise SumRejected("a public key of the roster is not a valid X25519 key", travels=True) from None

    def sign(self, text: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""
        return self._signing.sign(text)


def write_secret(path: Path, secret: bytes) -> None:
    """Write atomically with mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(secret)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)


def read_secret(path: Path) -> bytes:
    """Raises SecretExposed when group or others have any permission on the file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SecretExposed(f"{path} has mode {mode:04o}", remedy=f"Run: chmod 600 {path}")
    return path.read_bytes()
