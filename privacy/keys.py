"""Keys of a client and of a run.

A client's identity is one X25519 key in its home, mode 0600. Per run one member, the leader, draws a
32-byte master and a cipher context; the master is wrapped for each member (HKDF over an ephemeral and a static
X25519 exchange, ChaCha20-Poly1305, the run and the roster as associated data) and the context is sealed under it.
The coordinator relays both and can open neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.cipher import Group, Scheme
from privacy.errors import SecretExposed, SumRejected

MASTER_BYTES = 32
_ZERO_NONCE = bytes(12)  # every key below encrypts one message only

Roster = Mapping[str, bytes]
"""Client name -> X25519 public key, 32 bytes."""


class Identity:
    """The long-term key pair of one client."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @property
    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits in groups of four, to be read aloud."""
        digest = hashlib.sha256(self.public).hexdigest()[:16].upper()
        return " ".join(digest[at : at + 4] for at in range(0, 16, 4))

    @classmethod
    def create(cls, path: Path) -> Identity:
        """A new identity, written to `path` with mode 0600."""
        private = X25519PrivateKey.generate()
        write_secret(path, private.private_bytes_raw())
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Raises SecretExposed when others may read the key."""
        return cls(X25519PrivateKey.from_private_bytes(read_secret(path)))

    def exchange(self, other: bytes) -> bytes:
        """The X25519 shared secret with the owner of `other`."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(other))


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


def roster_hash(execution: str, roster: Roster) -> bytes:
    """Binds the members and their keys to one execution."""
    listing = json.dumps([execution, *((name, roster[name].hex()) for name in sorted(roster))])
    return hashlib.sha256(listing.encode()).digest()


def wrap(identity: Identity, member: bytes, binding: bytes, master: bytes) -> bytes:
    """`master` for the owner of public key `member`: 32 bytes ephemeral key + ciphertext (80 bytes in all)."""
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(member)) + identity.exchange(member)
    sealed = ChaCha20Poly1305(_derive(shared, b"wrap" + binding)).encrypt(_ZERO_NONCE, master, binding)
    return ephemeral.public_key().public_bytes_raw() + sealed


def unwrap(identity: Identity, leader: bytes, binding: bytes, wrapped: bytes) -> bytes:
    """The master that `leader` wrapped for `identity`. Raises SumRejected if it was made by another or for another."""
    try:
        shared = identity.exchange(wrapped[:32]) + identity.exchange(leader)
        return ChaCha20Poly1305(_derive(shared, b"wrap" + binding)).decrypt(_ZERO_NONCE, wrapped[32:], binding)
    except (InvalidTag, ValueError):
        raise SumRejected(
            "the group key was not wrapped by the leader for this client and roster", travels=True
        ) from None


def seal_group(group: Group, binding: bytes) -> bytes:
    """The cipher context under the master."""
    return ChaCha20Poly1305(_derive(group.master, b"context" + binding)).encrypt(_ZERO_NONCE, group.context, binding)


def open_group(scheme: Scheme, master: bytes, binding: bytes, sealed: bytes) -> Group:
    """Raises SumRejected if the context was altered."""
    try:
        context = ChaCha20Poly1305(_derive(master, b"context" + binding)).decrypt(_ZERO_NONCE, sealed, binding)
    except InvalidTag:
        raise SumRejected("the cipher context of the group was altered", travels=True) from None
    return Group(scheme, master, context)


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"sottovoce/" + info).derive(secret)
