"""Keyed pseudorandom numbers that every member of a group computes alike: AES-256-CTR under derived keys."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Words = npt.NDArray[np.uint64]


def derive(secret: bytes, *labels: str) -> bytes:
    """A 32-byte key for exactly these labels. A label's length goes in, so that no two lists collide."""
    text = b"".join(len(label.encode()).to_bytes(4, "big") + label.encode() for label in labels)
    return hmac.digest(hashlib.sha256(b"sottovoce" + secret).digest(), text, "sha256")


def keystream(key: bytes, size: int) -> bytes:
    """The first `size` bytes under `key`. A key is used for one stream only, so the counter starts at zero."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def words(key: bytes, count: int) -> Words:
    """`count` uint64."""
    return np.frombuffer(keystream(key, 8 * count), dtype="<u8")
