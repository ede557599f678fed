"""Reading the data source: a CSV or a Parquet file, cell by cell.

No record decides how another one is read, or whether it is. So a field of a CSV ends with its line (a quote that is not
closed would swallow the records after it), bytes that are no UTF-8 are replaced, and what Parquet holds is taken as it
is stored: a moment as its count since 1970, a text as its bytes.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.errors import ContractViolated, SourceMissing

_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INDEX = re.compile(r"__index_level_\d+__")


def read_source(path: Path) -> pd.DataFrame:
    """The whole table. Raises SourceMissing; ContractViolated for a file that is none."""
    try:
        return _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, OSError) and not path.is_file():
            raise SourceMissing(f"{path} cannot be read") from None
        raise ContractViolated(f"{path} is not a readable {path.suffix.lstrip('.') or 'CSV'} table") from None


def columns_of(path: Path) -> list[str]:
    """Names of its columns. Raises SourceMissing, ContractViolated."""
    try:
        if path.suffix == ".parquet":
            return _columns_of_schema(pq.read_schema(path))
        with open(path, "rb") as file:
            return _header(next(_lines(file), ""))
    except (OSError, ValueError, pa.ArrowException):
        if not path.is_file():
            raise SourceMissing(f"{path} cannot be read") from None
        raise ContractViolated(f"{path} is not a readable {path.suffix.lstrip('.') or 'CSV'} table") from None


# -- CSV ----------------------------------------------------------------------------------------------------------
def _read_csv(path: Path) -> pd.DataFrame:
    """Everything as text. A line with too many fields is cut, one with too few filled up, an empty one left out."""
    with open(path, "rb") as file:
        lines = _lines(file)
        names = _header(next(lines, ""))
        width = len(names)
        rows = []
        for line in lines:
            fields = _fields(line)
            rows.append((*fields[:width], *[""] * (width - len(fields))))
    columns = list(zip(*rows, strict=True)) if rows else [()] * width
    return pd.DataFrame({name: np.array(cells, dtype=object) for name, cells in zip(names, columns, strict=True)})


def _lines(file: Any) -> Iterator[str]:
    """Lines that hold something, without what other encodings leave in them."""
    for number, raw in enumerate(file):
        line = raw.rstrip(b"\r\n").replace(b"\0", b"").decode("utf-8", "replace")
        if number == 0:
            line = line.removeprefix("\ufeff")
        if line.strip():
            yield line


def _fields(line: str) -> list[str]:
    if '"' in line:
        try:
            return next(csv.reader([line], skipinitialspace=True), [""])
        except csv.Error:  # a field too long for it, or a line break of another kind
            pass
    return [field.lstrip() for field in line.split(",")]


def _header(line: str) -> list[str]:
    """Names, those that come again numbered. Raises ValueError when there are none."""
    names: list[str] = []
    for name in _fields(line) if line else []:
        again = sum(name == other.rpartition(".")[0] or name == other for other in names)
        names.append(f"{name}.{again}" if again else name)
    if not names:
        raise ValueError("no header")
    return names


# -- Parquet ------------------------------------------------------------------------------------------------------
def _read_parquet(path: Path) -> pd.DataFrame:
    schema = pq.read_schema(path)
    table = pq.read_table(path, columns=_columns_of_schema(schema), use_pandas_metadata=False)
    return pd.DataFrame({name: _cells(table.column(name)) for name in table.column_names})


def _columns_of_schema(schema: pa.Schema) -> list[str]:
    """Without what pandas keeps as an index."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    hidden = {name for name in index if isinstance(name, str)}
    return [name for name in schema.names if name not in hidden and not _INDEX.fullmatch(name)]


def _cells(column: pa.ChunkedArray) -> Any:
    """Numbers as numbers, all else as objects that text_of can tell."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _cells(column.cast(kind.value_type))
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        plain = column.to_pandas()
        return plain.to_numpy() if plain.dtype.kind in "iuf" else _objects(plain.tolist())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        texts = column.cast(pa.large_binary()).to_pylist()
        return _objects([None if text is None else text.decode("utf-8", "replace") for text in texts])
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _objects(_moments(column))
    return _objects(column.to_pylist())


def _moments(column: pa.ChunkedArray) -> list[str | None]:
    """Moments and spans of time as text, whatever their unit; also those that no calendar of Python's reaches."""
    kind = column.type
    whole = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
    counts = pc.cast(column, whole).to_pylist()
    if pa.types.is_date32(kind):
        return [None if count is None else _moment(count * 86_400, "", "") for count in counts]
    unit = "ms" if pa.types.is_date64(kind) else kind.unit
    zone = "+00:00" if pa.types.is_timestamp(kind) and kind.tz else ""
    return [None if count is None else _spelled(kind, count, _A_SECOND[unit], zone) for count in counts]


def _spelled(kind: pa.DataType, count: int, a_second: int, zone: str) -> str:
    seconds, rest = divmod(count, a_second)
    fraction = f".{rest:0{len(str(a_second)) - 1}d}".rstrip("0").rstrip(".") if rest else ""
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        days, left = divmod(seconds, 86_400)
        clock = f"{left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}{fraction}"
        return clock if pa.types.is_time(kind) else f"{days} days" + ("" if clock == "00:00:00" else f" {clock}")
    return _moment(seconds, fraction, zone)


def _moment(seconds: int, fraction: str, zone: str) -> str:
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds}{fraction} s after 1970{zone}"
    clock = f"{moment:%H:%M:%S}{fraction}"
    day = f"{moment.date().isoformat()}"
    return day if clock == "00:00:00" and not zone else f"{day}T{clock}{zone}"


def _objects(cells: list[Any]) -> Any:
    made = np.empty(len(cells), dtype=object)
    made[:] = cells
    return made
