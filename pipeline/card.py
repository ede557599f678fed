"""A client's card: what it hands to the operator to be admitted. Public; the fingerprint is read over the phone."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import Field, ValidationError, field_validator

from pipeline.contract import Frozen
from privacy.errors import ConfigError
from privacy.keys import PublicKeys


class ClientCard(Frozen):
    """Who a client is: to the other clients by its public keys, to the transport by its node key."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    public_keys: str = Field(pattern=r"^[0-9a-f]{128}$", description="X25519 and Ed25519, hex.")
    node_key: str = Field(max_length=1000, description="EC P-384 public key of its SuperNode, OpenSSH form.")

    @field_validator("node_key")
    @classmethod
    def _is_a_key(cls, text: str) -> str:
        key = load_ssh_public_key(text.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise ValueError("not an EC P-384 key")
        return " ".join(text.split()[:2])

    @classmethod
    def read(cls, path: Path) -> ClientCard:
        """Raises ConfigError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, ValueError) as error:
            raise ConfigError(
                f"{path} is not a client's card: {type(error).__name__}",
                remedy="It is the file card.json that `sottovoce client init` writes.",
            ) from None

    @property
    def fingerprint(self) -> str:
        """128 bits over name and both kinds of keys, as 32 hex digits in groups of four, to be read aloud."""
        text = f"sottovoce card\0{self.name}\0{self.public_keys}\0{self.node_key}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:32].upper()
        return " ".join(digest[at : at + 4] for at in range(0, 32, 4))

    @property
    def identity(self) -> PublicKeys:
        return PublicKeys.from_hex(self.public_keys)
