"""A client's card: what it hands to the operator, and to the owners of other clients. Public.

There is one fingerprint of a client, that of its public keys: it is read over the telephone, printed by every command,
and written down by all who know the client. Name and node key are signed under those keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import Field, ValidationError, field_validator

from pipeline.kinds import Frozen
from privacy.errors import ConfigError
from privacy.keys import Identity, PublicKeys


class ClientCard(Frozen):
    """Who a client is: to the other clients by its public keys, to the transport by its node key."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    public_keys: str = Field(pattern=r"^[0-9a-f]{128}$", description="X25519 and Ed25519, hex.")
    node_key: str = Field(max_length=1000, description="EC P-384 public key of its SuperNode, OpenSSH form.")
    signature: str = Field(
        "", pattern=r"^([0-9a-f]{128})?$", description="Ed25519 of name and keys by the client, hex."
    )

    @classmethod
    def signed(cls, name: str, identity: Identity, node_key: str) -> Self:
        """The card of the owner of `identity`."""
        card = cls(name=name, public_keys=identity.public.hex(), node_key=node_key)
        return card.model_copy(update={"signature": identity.sign(card._text).hex()})

    @field_validator("node_key")
    @classmethod
    def _is_a_key(cls, text: str) -> str:
        key = load_ssh_public_key(text.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise ValueError("not an EC P-384 key")
        return " ".join(text.split()[:2])

    @classmethod
    def read(cls, path: Path) -> ClientCard:
        """Raises ConfigError when it is none, or not signed by the keys on it."""
        try:
            card = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, ValueError) as error:
            raise ConfigError(
                f"{path} is not a client's card: {type(error).__name__}",
                remedy="It is the file card.json that `sottovoce client init` writes.",
            ) from None

        if not card.identity.verify(bytes.fromhex(card.signature), card._text):
            raise ConfigError(
                f"{path} is not signed by the keys on it: it was altered, or made by an earlier version",
                remedy="Ask its owner for card.json again; `sottovoce client start` makes it anew.",
            )
        return card

    @property
    def _text(self) -> bytes:
        return f"sottovoce card\0{self.name}\0{self.public_keys}\0{self.node_key}".encode()

    def same_as(self, other: ClientCard) -> bool:
        """Whether both are of one client, signed or not."""
        return self._text == other._text

    @property
    def fingerprint(self) -> str:
        """That of the public keys, to be read aloud."""
        return self.identity.fingerprint

    @property
    def identity(self) -> PublicKeys:
        return PublicKeys.from_hex(self.public_keys)
