"""A message as Flower records and back: one JSON document and named binary blobs.

In Flower's terms: a ConfigRecord with the document and the small blobs, and an ArrayRecord of uint8 arrays for the
large ones, which Flower sends in chunks. No pickle anywhere; arrays are raw little-endian bytes whose length the
receiver knows beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import BaseModel, ValidationError

from privacy.errors import ProtocolError

MAX_JSON = 4_000_000
MAX_BLOB = 512_000_000
INLINE = 65_536
"""Bytes up to which a blob travels beside the document. An array of its own is two or more objects of Flower's, each a
request at every hop; above this a grid that shares arrays between messages saves more than that costs."""

Blobs = Mapping[str, bytes]
Message = TypeVar("Message", bound=BaseModel)


class Packer:
    """Packs each distinct document and large blob once, so that all messages share it and a grid may send it once."""

    def __init__(self) -> None:
        self._documents: dict[int, tuple[BaseModel, str]] = {}
        self._arrays: dict[tuple[tuple[str, int], ...], tuple[Blobs, ArrayRecord]] = {}

    def pack(self, message: BaseModel, blobs: Blobs) -> RecordDict:
        """The records of one message."""
        if id(message) not in self._documents:
            self._documents[id(message)] = (message, message.model_dump_json())
        small = {name: blob for name, blob in blobs.items() if len(blob) <= INLINE}
        record = RecordDict({"message": ConfigRecord({"json": self._documents[id(message)][1], **small})})
        if large := {name: blob for name, blob in blobs.items() if len(blob) > INLINE}:
            key = tuple((name, id(blob)) for name, blob in large.items())
            if key not in self._arrays:
                arrays = {name: Array(np.frombuffer(blob, dtype=np.uint8)) for name, blob in large.items()}
                self._arrays[key] = (large, ArrayRecord(arrays))
            record["blobs"] = self._arrays[key][1]
        return record


def pack(message: BaseModel, blobs: Blobs | None = None) -> RecordDict:
    """The records of the only message that has this document and these blobs."""
    return Packer().pack(message, blobs or {})


def size_of(record: RecordDict) -> int:
    """Bytes of all blobs."""
    arrays = sum(len(array.data) for part in record.array_records.values() for array in part.values())
    small = (blob for part in record.config_records.values() for blob in part.values() if isinstance(blob, bytes))
    return arrays + sum(map(len, small))


def unpack(
    kind: type[Message], record: RecordDict, allowed_kinds: Collection[str] = ()
) -> tuple[Message, dict[str, bytes]]:
    """Flower records as a message of `kind` and its blobs. allowed_kinds: own classes that it may name.

    Raises ProtocolError for anything unexpected; KindNotAllowed, KindMissing, KindUnfit.
    """
    try:
        fields = dict(record.config_records["message"])
        text = fields.pop("json")
        if not isinstance(text, str) or len(text) > MAX_JSON:
            raise ValueError("the document is too long")
        message = kind.model_validate_json(text, context={"allowed_kinds": tuple(allowed_kinds)})
        arrays = record.array_records.get("blobs", ArrayRecord())
        if set(fields) & set(arrays):
            raise ValueError("a blob comes twice")
        blobs = {name: _unpack_blob(blob) for name, blob in (*fields.items(), *arrays.items())}
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
        raise ProtocolError(f"{kind.__name__}: field {where or 'document'} is not valid") from None
    except (KeyError, ValueError, TypeError, EOFError):
        raise ProtocolError(f"{kind.__name__}: the message is malformed") from None
    return message, blobs


def _unpack_blob(blob: object) -> bytes:
    content = blob.data if isinstance(blob, Array) else blob
    if not isinstance(content, bytes) or len(content) > MAX_BLOB:
        raise ValueError("not a blob, or too long")
    if not isinstance(blob, Array):
        return content
    array = blob.numpy()
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError("not a blob")
    return array.tobytes()


def weights_from(blob: bytes, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Exactly `count` finite float32. Raises ProtocolError."""
    if len(blob) != 4 * count:
        raise ProtocolError(f"expected {count} weights, got {len(blob)} bytes", travels=True)
    weights = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise ProtocolError("the weights are not finite", travels=True)
    return weights
