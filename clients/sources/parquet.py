"""A Parquet file. What it holds is taken as it is stored: a moment as its count since 1970, a text as its bytes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from clients.sources.source import Source, stamp, unreadable

if TYPE_CHECKING:
    import pandas as pd

_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INDEX = re.compile(r"__index_level_\d+__")


class Parquet(Source):
    """Without what pandas keeps as an index."""

    kind: Literal["parquet"] = Field("parquet", description="A Parquet file.")
    path: Path = Field(description="Where it lies.")

    def read(self) -> pd.DataFrame:
        import pandas as pd

        try:
            schema = pq.read_schema(self.path)
            table = pq.read_table(self.path, columns=_columns_of_schema(schema), use_pandas_metadata=False)
            return pd.DataFrame({name: _cells(table.column(name)) for name in table.column_names})
        except (OSError, ValueError, pa.ArrowException) as error:
            raise unreadable(self.path, error, "Parquet") from None

    def columns(self) -> list[str]:
        try:
            return _columns_of_schema(pq.read_schema(self.path))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise unreadable(self.path, error, "Parquet") from None

    def seen(self) -> str:
        return stamp(self.path)

    @property
    def files(self) -> Sequence[Path]:
        return (self.path,)


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
