"""Prediction ids: what a caller shows to say what became of a prediction.

An id holds, sealed, all that an outcome will be judged by: who answered, by which shares, and what was said. So nothing
is stored of a prediction that nobody comes back to, any replica can read what another one made, and scores that were
withheld or rounded stay so.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from pipeline.host.locking import locked
from privacy.errors import ServingError

Numbers = npt.NDArray[np.float32]
FORMAT = 1
_HEAD = struct.Struct("<B?IIIHHH8s4s")
_ARM = struct.Struct("<If")
_NONCE = 12
_SECRET = 32


@dataclass(frozen=True)
class Receipt:
    """What an id says. id: of the prediction, 24 hex digits. unit: whom it was about, a keyed digest where the question
    said so (`about`), or a random one.

    experiment: digest of the salt by which the version was drawn, empty where nothing was; shares: by version, then.
    told: numbers [rows, width] of the version that answered and of those that were asked too (`Task.predictions`).
    """

    id: str
    version: int
    asked: float
    unit: str
    about: bool
    experiment: str
    shares: Mapping[int, float]
    told: Mapping[int, Numbers]

    @property
    def rows(self) -> int:
        return len(self.told[self.version])


class Receipts:
    """Made and read with one secret of the workspace, mode 0600, for one model.

    AES-256-GCM-SIV (RFC 8452): nonces are random, and one that came twice would tell no more than that what was said
    is the same.
    """

    def __init__(self, path: Path, model: str) -> None:
        """Raises ServingError for a file that holds no secret."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                building = path.with_name(f".{path.name}.new")
                building.touch(mode=0o600)
                building.write_bytes(secrets.token_bytes(_SECRET))
                building.replace(path)
        if len(secret := path.read_bytes()) != _SECRET:
            raise ServingError(
                f"{path} holds no secret", remedy="Restore it, or remove it: no earlier prediction is known then."
            )
        self._model = model.encode()
        self._seal = AESGCMSIV(hmac.digest(secret, b"prediction ids", "sha256"))
        self._subjects = hmac.digest(secret, b"subjects", "sha256")

    def unit(self, subject: str) -> bytes:
        """So that nobody reads who it is: eight bytes."""
        return hmac.digest(self._subjects, subject.encode("utf-8", "surrogatepass"), "sha256")[:8]

    def made(
        self,
        version: int,
        subject: str | None,
        told: Mapping[int, Numbers],
        experiment: bytes = b"",
        shares: Mapping[int, float] | None = None,
    ) -> str:
        """A new id. experiment: four bytes. told: with the answering version's numbers."""
        arms, rows = dict(shares or {}), told[version]
        head = _HEAD.pack(
            FORMAT,
            subject is not None,
            version,
            int(time.time()),
            len(rows),
            rows.shape[1],
            len(told),
            len(arms),
            secrets.token_bytes(8) if subject is None else self.unit(subject),
            experiment,
        )
        parts = [head, *(_ARM.pack(arm, share) for arm, share in arms.items())]
        parts += [struct.pack("<I", each) for each in told]
        parts += [np.ascontiguousarray(numbers, dtype="<f4").tobytes() for numbers in told.values()]
        nonce = secrets.token_bytes(_NONCE)
        return (
            base64.urlsafe_b64encode(nonce + self._seal.encrypt(nonce, b"".join(parts), self._model))
            .decode()
            .rstrip("=")
        )

    def read(self, told: str) -> Receipt | None:
        """None: it was not made here, or for another model."""
        try:
            sealed = base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))
            plain = self._seal.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._model)
        except (ValueError, InvalidTag):
            return None
        if not plain or plain[0] != FORMAT:
            return None
        _, about, version, asked, rows, width, versions, arms, unit, experiment = _HEAD.unpack_from(plain)
        at = _HEAD.size
        shares = dict(_ARM.iter_unpack(plain[at : at + arms * _ARM.size]))
        at += arms * _ARM.size
        numbers = [number for (number,) in struct.iter_unpack("<I", plain[at : at + 4 * versions])]
        at += 4 * versions
        values = np.frombuffer(plain, dtype="<f4", offset=at).reshape(versions, rows, width)
        return Receipt(
            id=sealed[:_NONCE].hex(),
            version=version,
            asked=float(asked),
            unit=unit.hex(),
            about=about,
            experiment="" if experiment == bytes(4) else experiment.hex(),
            shares={arm: round(share, 6) for arm, share in shares.items()},
            told=dict(zip(numbers, values, strict=True)),
        )


def prediction_of(told: str) -> str:
    """The prediction that an id is of: 24 hex digits. It is not checked."""
    return base64.urlsafe_b64decode(told[: _NONCE * 4 // 3]).hex()
