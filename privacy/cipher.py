"""Sums of integer vectors that the one who adds cannot read.

Two roles. A `Holder` beside the data seals its vector and opens a sum; an `Adder` at the coordinator adds sealed
vectors as they arrive and holds no key. Both speak sealed vectors as bytes. `bfv` is TenSEAL's exact BFV
(N = 4096, symmetric encryption, 128-bit security by the HE standard's table); `none` sums in the clear and exists
because some jobs choose it, loudly, in their configuration.

A vector is cut into blocks of 4,095 slots; the 4,096th carries a tag that only members of the group can compute.
The tags of a sum must add up to those of the clients that are claimed to be in it: a block that was dropped,
doubled, replayed or taken from elsewhere does not open. (Exact BFV and not CKKS: Li and Micciancio, ePrint 2020/1533.)
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from privacy.errors import SumRejected
from privacy.quantise import Integers

Scheme = Literal["bfv", "none"]

SLOTS = 4096
DATA_SLOTS = SLOTS - 1
PLAIN_MODULUS = 4_398_046_568_449
"""The smallest prime above 2^42 that is 1 modulo 2N: two lanes of 21 bits fit a slot, and slots can be batched."""

_MAGIC = b"SVs1"
_HEADER = struct.Struct(">4sBI")
_SCHEMES: tuple[Scheme, ...] = ("none", "bfv")
_MAX_BLOCK = 80_000
_MAX_BLOCKS = 100_000
_PROTO_SIZES = b"\x0a\x02\x80\x20\x12"
"""TenSEAL's message around one ciphertext: sizes = [4096], then the ciphertext. Only the ciphertext travels and the
receiver writes this prefix itself, because TenSEAL believes whatever sizes a message claims."""


@dataclass(frozen=True)
class Statement:
    """What a sealed vector is for. Two sums with different statements cannot be exchanged for one another."""

    execution: str
    purpose: str
    round: int

    def tags(self, master: bytes, client: str, blocks: int) -> Integers:
        """One number below the plain modulus a block: PRF(master, statement, client, block)."""
        key = hmac.digest(master, f"tag/{self.execution}/{self.purpose}/{self.round}/{client}".encode(), "sha256")
        stream = b"".join(hashlib.sha256(key + block.to_bytes(8, "big")).digest()[:8] for block in range(blocks))
        return (np.frombuffer(stream, dtype=">u8").astype(np.uint64) % np.uint64(PLAIN_MODULUS)).astype(np.int64)


class Holder(Protocol):
    """The role beside the data."""

    def seal(self, slots: Integers, statement: Statement, client: str) -> bytes:
        """Seal int64 slots in [0, 2^42)."""

    def open(self, total: bytes, statement: Statement, clients: Sequence[str], count: int) -> Integers:
        """The exact sum of the `count` slots of exactly `clients`. Raises SumRejected for anything else."""


class Adder(Protocol):
    """The role of the coordinator."""

    def add(self, sealed: bytes) -> None:
        """Add one client's vector. Raises SumRejected, the running sum unchanged, if the bytes are malformed."""

    def total(self) -> bytes:
        """The sealed sum of everything added."""


@dataclass(frozen=True)
class Group:
    """What the members of a run share: a master secret and, for `bfv`, the cipher's secret context."""

    scheme: Scheme
    master: bytes
    context: bytes = b""

    @classmethod
    def create(cls, scheme: Scheme, master: bytes) -> Group:
        """A fresh group with its own cipher key."""
        return cls(scheme, master, _new_context() if scheme == "bfv" else b"")

    def holder(self) -> Holder:
        """This group's holder."""
        return BfvHolder(self) if self.scheme == "bfv" else PlainHolder(self)


def new_adder(scheme: Scheme) -> Adder:
    """An adder for `scheme`. It is made from public parameters alone."""
    return BfvAdder() if scheme == "bfv" else PlainAdder()


def _frame(scheme: Scheme, blocks: Sequence[bytes]) -> bytes:
    head = _HEADER.pack(_MAGIC, _SCHEMES.index(scheme), len(blocks))
    return head + b"".join(struct.pack(">I", len(block)) + block for block in blocks)


def _unframe(scheme: Scheme, sealed: bytes) -> list[bytes]:
    """The blocks of a sealed vector; raises SumRejected for anything but a frame of exactly this length."""
    view = memoryview(sealed)
    blocks: list[bytes] = []
    try:
        magic, number, count = _HEADER.unpack_from(view, 0)
        at = _HEADER.size
        if magic != _MAGIC or number != _SCHEMES.index(scheme) or not 1 <= count <= _MAX_BLOCKS:
            raise ValueError
        for _ in range(count):
            (length,) = struct.unpack_from(">I", view, at)
            if not 1 <= length <= _MAX_BLOCK or at + 4 + length > len(view):
                raise ValueError
            blocks.append(bytes(view[at + 4 : at + 4 + length]))
            at += 4 + length
        if at != len(view):
            raise ValueError
    except (ValueError, struct.error):
        raise SumRejected(f"malformed sealed vector of {len(sealed)} bytes", travels=True) from None
    return blocks


def _blocks(slots: Integers, tags: Integers) -> Integers:
    """Slots padded and cut to [blocks, SLOTS], the tag in the last column."""
    table = np.zeros((len(tags), SLOTS), dtype=np.int64)
    padded = np.zeros(len(tags) * DATA_SLOTS, dtype=np.int64)
    padded[: len(slots)] = slots
    table[:, :DATA_SLOTS] = padded.reshape(len(tags), DATA_SLOTS)
    table[:, DATA_SLOTS] = tags
    return table


def _count_blocks(slots: int) -> int:
    return max(1, -(-slots // DATA_SLOTS))


def _checked(table: Integers, group: Group, statement: Statement, clients: Sequence[str], count: int) -> Integers:
    """The data of a decrypted table whose tags are exactly those of `clients`, once each."""
    if len(set(clients)) != len(clients):
        raise SumRejected("a client is named twice in the sum", travels=True)
    expected = np.zeros(len(table), dtype=np.int64)
    for client in clients:
        expected = (expected + statement.tags(group.master, client, len(table))) % PLAIN_MODULUS
    if not np.array_equal(table[:, DATA_SLOTS] % PLAIN_MODULUS, expected):
        raise SumRejected("the sum is not that of the named clients, once each", travels=True)
    data = table[:, :DATA_SLOTS].reshape(-1)[:count]
    if len(data) and (data.min() < 0 or data.max() >= 2**42):
        raise SumRejected("a value of the decrypted sum is out of range", travels=True)
    return data


class PlainHolder:
    """Sums in the clear, with the same checks of who is in them."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def seal(self, slots: Integers, statement: Statement, client: str) -> bytes:
        tags = statement.tags(self._group.master, client, _count_blocks(len(slots)))
        return _frame("none", [row.astype(">i8").tobytes() for row in _blocks(slots, tags)])

    def open(self, total: bytes, statement: Statement, clients: Sequence[str], count: int) -> Integers:
        return _checked(_plain_table(total, _count_blocks(count)), self._group, statement, clients, count)


class PlainAdder:
    """Adds what `PlainHolder` seals."""

    def __init__(self) -> None:
        self._sum: Integers | None = None

    def add(self, sealed: bytes) -> None:
        table = _plain_table(sealed, None if self._sum is None else len(self._sum))
        self._sum = table if self._sum is None else (self._sum + table) % PLAIN_MODULUS

    def total(self) -> bytes:
        if self._sum is None:
            raise SumRejected("nothing was added")
        return _frame("none", [row.astype(">i8").tobytes() for row in self._sum])


def _plain_table(sealed: bytes, blocks: int | None) -> Integers:
    rows = _unframe("none", sealed)
    if (blocks is not None and len(rows) != blocks) or any(len(row) != 8 * SLOTS for row in rows):
        raise SumRejected("a sealed vector has the wrong length", travels=True)
    table = np.stack([np.frombuffer(row, dtype=">i8") for row in rows]).astype(np.int64)
    if table.min() < 0 or table.max() >= PLAIN_MODULUS:
        raise SumRejected("a value of the sum is out of range", travels=True)
    return table


class BfvHolder:
    """Seals and opens with the group's secret key."""

    def __init__(self, group: Group) -> None:
        import tenseal

        self._group = group
        self._context = tenseal.context_from(group.context)

    def seal(self, slots: Integers, statement: Statement, client: str) -> bytes:
        import tenseal

        tags = statement.tags(self._group.master, client, _count_blocks(len(slots)))
        vectors = (tenseal.bfv_vector(self._context, row.tolist()) for row in _blocks(slots, tags))
        return _frame("bfv", [_strip(vector.serialize()) for vector in vectors])

    def open(self, total: bytes, statement: Statement, clients: Sequence[str], count: int) -> Integers:
        blocks = _unframe("bfv", total)
        if len(blocks) != _count_blocks(count):
            raise SumRejected("the sum has the wrong length", travels=True)
        rows = [_load(self._context, block).decrypt() for block in blocks]
        table = np.asarray(rows, dtype=np.int64)
        return _checked(np.where(table < 0, table + PLAIN_MODULUS, table), self._group, statement, clients, count)


class BfvAdder:
    """Adds ciphertexts. Its context is made from the public parameters: there is no key in this object."""

    def __init__(self) -> None:
        import tenseal

        self._context = tenseal.context_from(_public_parameters())
        self._sum: list[Any] = []

    def add(self, sealed: bytes) -> None:
        vectors = [_load(self._context, block) for block in _unframe("bfv", sealed)]
        if not self._sum:
            self._sum = vectors
            return
        if len(vectors) != len(self._sum):
            raise SumRejected("a sealed vector has another length than those before it", travels=True)
        for mine, theirs in zip(self._sum, vectors, strict=True):
            mine.add_(theirs)

    def total(self) -> bytes:
        if not self._sum:
            raise SumRejected("nothing was added")
        return _frame("bfv", [_strip(vector.serialize()) for vector in self._sum])


def _strip(message: bytes) -> bytes:
    """The ciphertext inside TenSEAL's message around one block."""
    if not message.startswith(_PROTO_SIZES):
        raise SumRejected("unexpected layout of a TenSEAL vector")
    length, at = _read_varint(message, len(_PROTO_SIZES))
    if at + length != len(message):
        raise SumRejected("unexpected length of a TenSEAL vector")
    return message[at:]


def _load(context: Any, ciphertext: bytes) -> Any:
    import tenseal

    try:
        return tenseal.bfv_vector_from(context, _PROTO_SIZES + _varint(len(ciphertext)) + ciphertext)
    except (ValueError, RuntimeError):
        raise SumRejected("a block is not a ciphertext under the parameters of this run", travels=True) from None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _new_context() -> bytes:
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        SLOTS,
        plain_modulus=PLAIN_MODULUS,
        coeff_mod_bit_sizes=[54, 55],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    secret: bytes = context.serialize(
        save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
    )
    return secret


def _public_parameters() -> bytes:
    """The parameters alone, without any key: equal for every run."""
    import tenseal

    context = tenseal.context_from(_new_context())
    public: bytes = context.serialize(
        save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return public
