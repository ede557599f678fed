"""The group of a run: who is in it, the master secret its members share, and how they come by it.

One member, the leader, draws a 32-byte master and a cipher key. It signs the roster, wraps the master for each member
(HKDF over an ephemeral and a static X25519 exchange, ChaCha20-Poly1305, the roster as associated data: 80 bytes) and
seals the cipher key under the master. The coordinator relays all of it and can open none. When a member leaves, the
next generation of the group has a new master: who is gone can read nothing that comes after.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.cipher import new_key
from privacy.errors import SumRejected
from privacy.keys import KEY_BYTES, Identity, PublicKeys, PublicRoster
from privacy.layout import Layout
from privacy.wire import Scheme

_ZERO_NONCE = bytes(12)  # every key below encrypts one message only
_WRAPPED_BYTES = 80


@dataclass(frozen=True)
class Terms:
    """What the members of one generation of a group agree on; all of it is signed by the leader.

    purpose: the only kind of sums that is sealed under this group's key.
    """

    execution: str
    purpose: str
    generation: int
    scheme: Scheme
    masks: bool
    roster: PublicRoster

    @property
    def layout(self) -> Layout:
        """Sized for the whole roster. Raises PlanInvalid when it is too large."""
        return Layout.for_cohort(len(self.roster))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the terms."""
        members = [[name, self.roster[name].hex()] for name in sorted(self.roster)]
        listing = json.dumps([self.execution, self.purpose, self.generation, self.scheme, self.masks, members])
        return hashlib.sha256(b"sottovoce group" + listing.encode()).digest()


@dataclass(frozen=True)
class Group:
    """One generation: its terms, its master, and the cipher's key."""

    terms: Terms
    master: bytes
    key: bytes

    @classmethod
    def create(cls, terms: Terms) -> Group:
        """A fresh master and a fresh cipher key."""
        return cls(terms, secrets.token_bytes(KEY_BYTES), new_key(terms.scheme, terms.layout))

    def sealed_key(self) -> bytes:
        """The cipher key under the master."""
        return self._box(self.terms, self.master).encrypt(_ZERO_NONCE, self.key, self.terms.digest)

    def wrapped(self, identity: Identity, member: PublicKeys) -> bytes:
        """The master for one member; `identity` is the leader's. Raises SumRejected for a key that is not one."""
        ephemeral = X25519PrivateKey.generate()
        try:
            fresh = ephemeral.exchange(X25519PublicKey.from_public_bytes(member.exchange))
        except ValueError:
            raise SumRejected("a public key of the roster is not a valid X25519 key", travels=True) from None
        shared = fresh + identity.exchange(member.exchange)
        box = ChaCha20Poly1305(_derive(shared, b"wrap" + self.terms.digest))
        return ephemeral.public_key().public_bytes_raw() + box.encrypt(_ZERO_NONCE, self.master, self.terms.digest)

    @classmethod
    def join(cls, terms: Terms, identity: Identity, leader: str, offer: Offer) -> Group:
        """The group that `leader` offers to the owner of `identity`.

        Raises SumRejected if the terms were not signed by the leader, or the offer was made by another or for another.
        """
        keys = terms.roster.get(leader)
        if keys is None or not keys.verify(offer.signature, terms.digest):
            raise SumRejected("the roster of the group is not signed by its leader", travels=True)
        if len(offer.wrapped) != _WRAPPED_BYTES:
            raise SumRejected("the wrapped group key has the wrong length", travels=True)
        try:
            shared = identity.exchange(offer.wrapped[:KEY_BYTES]) + identity.exchange(keys.exchange)
            box = ChaCha20Poly1305(_derive(shared, b"wrap" + terms.digest))
            master = box.decrypt(_ZERO_NONCE, offer.wrapped[KEY_BYTES:], terms.digest)
            key = cls._box(terms, master).decrypt(_ZERO_NONCE, offer.sealed_key, terms.digest)
        except InvalidTag:
            raise SumRejected(
                "the group key was not made by the leader for this client and roster", travels=True
            ) from None
        return cls(terms, master, key)

    @staticmethod
    def _box(terms: Terms, master: bytes) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(_derive(master, b"key" + terms.digest))


@dataclass(frozen=True)
class Offer:
    """What the leader makes for one member: its signature of the terms, the wrapped master, the sealed cipher key."""

    signature: bytes
    wrapped: bytes
    sealed_key: bytes


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"sottovoce/" + info).derive(secret)
