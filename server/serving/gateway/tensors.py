"""The Open Inference Protocol's tensors, and rows: one tensor per raw column, one per part of an answer.

github.com/kserve/open-inference-protocol, version 2; the binary form is Triton's extension "binary tensor data".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.serving.refusal import Refused
from server.serving.version import ServedModel

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""numpy's names; BYTES is told by lengths."""
_OF_SCHEMA = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}


@dataclass(frozen=True)
class Tensor:
    """One of a request or an answer, its values flat."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


def unpacked(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """From raw little-endian bytes. Raises Refused."""
    count = _count(name, shape)
    if datatype == "BYTES":
        values, at = [], 0
        while at < len(raw):
            if at + 4 > len(raw):
                raise Refused(400, f"input {name}: its bytes end in the middle of a length")
            (length,) = struct.unpack_from("<I", raw, at)
            if at + 4 + length > len(raw):
                raise Refused(400, f"input {name}: its bytes end in the middle of a text")
            values.append(bytes(raw[at + 4 : at + 4 + length]))
            at += 4 + length
    else:
        dtype = np.dtype(_dtype(name, datatype))
        if len(raw) % dtype.itemsize:
            raise Refused(400, f"input {name}: {len(raw)} bytes are no whole number of {datatype}")
        values = np.frombuffer(raw, dtype=dtype).tolist()
    if len(values) != count:
        raise Refused(400, f"input {name}: {len(values)} values for the shape {list(shape)}")
    return Tensor(name, datatype, tuple(shape), values)


def listed(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """From JSON or protobuf lists, nested or flat. Raises Refused."""
    if datatype != "BYTES":
        _dtype(name, datatype)
    count = _count(name, shape)
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if len(flat) != count:
        raise Refused(400, f"input {name}: {len(flat)} values for the shape {list(shape)}")
    return Tensor(name, datatype, tuple(shape), flat)


def packed(tensor: Tensor) -> bytes:
    """Raw little-endian bytes."""
    if tensor.datatype == "BYTES":
        said = [value if isinstance(value, bytes) else str(value).encode() for value in tensor.values]
        return b"".join(struct.pack("<I", len(value)) + value for value in said)
    return np.asarray(tensor.values, dtype=DTYPES[tensor.datatype]).tobytes()


def rows_of(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Rows of named raw values, as `POST /predict` takes them. Raises Refused."""
    if not tensors:
        raise Refused(400, "no inputs: expected one tensor for each column")
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise Refused(400, f"input {next(name for name in names if names.count(name) > 1)} comes twice")
    lengths = {tensor.shape[0] for tensor in tensors}
    if len(lengths) != 1:
        raise Refused(400, f"inputs of {', '.join(str(length) for length in sorted(lengths)[:5])} rows in one request")
    columns = [[_cell(tensor, value) for value in tensor.values] for tensor in tensors]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def answers_of(model: ServedModel, predictions: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[Tensor]:
    """One tensor [rows, 1] for each part of an answer, those that are wanted or all. Raises Refused."""
    kinds = output_kinds(model)
    for name in wanted:
        if name not in kinds:
            raise Refused(400, f"no such output: {name[:60]}; there are {', '.join(kinds)}")
    return [
        Tensor(name, kinds[name], (len(predictions), 1), [_told(kinds[name], said[name]) for said in predictions])
        for name in wanted or kinds
    ]


def input_kinds(model: ServedModel) -> dict[str, str]:
    """Datatype of each raw column."""
    return {name: _OF_SCHEMA[str(column.json_schema["type"])] for name, column in model.spec.columns.items()}


def output_kinds(model: ServedModel) -> dict[str, str]:
    """Datatype of each part of an answer; what is no single value is BYTES that hold JSON."""
    parts: Any = model.spec.task.answer_schema["properties"]
    return {name: _OF_SCHEMA.get(part["type"], "BYTES") for name, part in parts.items()}


def metadata(model: ServedModel, name: str, versions: Sequence[int]) -> dict[str, Any]:
    """Of one version, as JSON and gRPC tell it."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": "sottovoce",
        "inputs": [
            {"name": column, "datatype": datatype, "shape": [-1, 1]} for column, datatype in input_kinds(model).items()
        ],
        "outputs": [
            {"name": part, "datatype": datatype, "shape": [-1, 1]} for part, datatype in output_kinds(model).items()
        ],
    }


def _cell(tensor: Tensor, value: Any) -> Any:
    """NaN and an empty text are missing, as a tensor cannot say null otherwise."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise Refused(400, f"input {tensor.name}: a text that is not UTF-8") from None
    if value == "" and tensor.datatype == "BYTES":
        return None
    if isinstance(value, float) and value != value:
        return None
    if tensor.datatype == "BOOL" and value in (0, 1):
        return bool(value)
    return value


def _told(datatype: str, value: Any) -> Any:
    return json.dumps(value) if datatype == "BYTES" and not isinstance(value, str) else value


def _dtype(name: str, datatype: str) -> str:
    if datatype not in DTYPES:
        known = ", ".join([*DTYPES, "BYTES"])
        raise Refused(400, f"input {name}: no such datatype: {datatype[:20]}; there are {known}")
    return DTYPES[datatype]


def _count(name: str, shape: Sequence[int]) -> int:
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    if not whole or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise Refused(400, f"input {name}: expected the shape [rows] or [rows, 1]")
    return shape[0]
