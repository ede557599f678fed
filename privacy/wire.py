"""Sealed vectors as bytes. Every length is known beforehand; nothing is parsed before it was measured.

    upload   header, seeds [blocks x 64], coefficients [blocks x N x 6], signature [64]
    total    header, coefficients [blocks x N x 6], second polynomials [blocks x N x 7]

The header says format, scheme, layout and number of blocks. The signature is the client's Ed25519 over statement,
client, header and body. `none` carries plain coefficients of 8 bytes and no seeds. All integers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from privacy.errors import SumRejected
from privacy.layout import DEGREE, DROPPED_BITS, MODULUS, SEED_BYTES, Layout
from privacy.statement import Statement
from privacy.stream import Words

Scheme = Literal["bfv", "none"]
SCHEMES: tuple[Scheme, ...] = ("none", "bfv")
Kind = Literal["upload", "total"]

SIGNATURE_BYTES = 64

_HEADER = struct.Struct("<4sBBBBI")
_MAGIC = {"upload": b"SVu2", "total": b"SVt2"}
_VERSION = 2
_ROUND = 1 << (DROPPED_BITS - 1)
LARGEST_SEALED = (MODULUS - 1 + _ROUND) >> DROPPED_BITS
"""Largest value of a coefficient whose lowest bits were rounded away."""


@dataclass(frozen=True)
class Format:
    """The exact form of the vectors of one sum."""

    scheme: Scheme
    layout: Layout
    blocks: int

    def header(self, kind: Kind) -> bytes:
        return _HEADER.pack(
            _MAGIC[kind], _VERSION, SCHEMES.index(self.scheme), self.layout.lanes, self.layout.width, self.blocks
        )

    @property
    def upload_bytes(self) -> int:
        body = SEED_BYTES + 6 * DEGREE if self.scheme == "bfv" else 8 * DEGREE
        return _HEADER.size + self.blocks * body + SIGNATURE_BYTES

    @property
    def total_bytes(self) -> int:
        return _HEADER.size + self.blocks * DEGREE * (13 if self.scheme == "bfv" else 8)

    def body(self, kind: Kind, content: bytes) -> memoryview:
        """What follows the header. Raises SumRejected for any other length or header than this sum's."""
        wanted = self.upload_bytes if kind == "upload" else self.total_bytes
        if len(content) != wanted:
            raise SumRejected(f"an {kind} of {len(content)} bytes; this sum's have {wanted}", travels=True)
        if content[: _HEADER.size] != self.header(kind):
            raise SumRejected(f"the header of the {kind} is not that of this sum", travels=True)
        return memoryview(content)[_HEADER.size : len(content) - (SIGNATURE_BYTES if kind == "upload" else 0)]


def signed_text(statement: Statement, client: str, unsigned: bytes) -> bytes:
    """What a client signs for its upload."""
    digest = hashlib.sha256(unsigned).digest()
    return b"sottovoce upload\0" + bytes.fromhex(statement.digest) + client.encode() + b"\0" + digest


def rounded(coefficients: Words) -> Words:
    """Coefficients below q without their lowest bits, rounded to the nearest."""
    return (coefficients + np.uint64(_ROUND)) >> np.uint64(DROPPED_BITS)


def restored(sealed: Words) -> Words:
    """Coefficients below q from rounded ones. The largest rounded value stands for q - 1 or a little more: reduced."""
    return (sealed << np.uint64(DROPPED_BITS)) % np.uint64(MODULUS)


def packed(values: Words, size: int) -> bytes:
    """Each value's lowest `size` bytes. Meant for one block at a time: it stays in the processor's cache."""
    return values.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :size].tobytes()


def unpacked(content: memoryview, size: int, largest: int, blocks: int = 1) -> Words:
    """uint64 [blocks, N] from `size` bytes each. Raises SumRejected when one is above `largest`."""
    values = np.zeros((blocks * DEGREE, 8), dtype=np.uint8)
    values[:, :size] = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    table = values.view("<u8").reshape(blocks, DEGREE)
    if table.max(initial=0) > largest:
        raise SumRejected("a coefficient is out of range", travels=True)
    return table
