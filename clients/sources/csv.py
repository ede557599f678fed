"""A CSV file, cell by cell.

A field ends with its line (a quote that is not closed would swallow the records after it), and bytes that are not of
the declared encoding are replaced.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from clients.sources.source import Source, stamp, unreadable

if TYPE_CHECKING:
    import pandas as pd

_DECIMAL = re.compile(r"[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?")


class Csv(Source):
    """Its first line names the columns. A byte order mark and either ending of a line are no news."""

    kind: Literal["csv"] = Field("csv", description="A CSV file.")
    path: Path = Field(description="Where it lies.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="What stands between two fields.")
    encoding: str = Field("utf-8", description="How its text is encoded.")
    decimal: Literal[".", ","] = Field(".", description="The decimal mark.")
    nulls: tuple[str, ...] = Field((), description="What stands for nothing, beside an empty field.")

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError(f"there is no encoding {encoding!r}; it is named as in utf-8, cp1252, utf-16") from None
        return encoding

    @field_validator("delimiter")
    @classmethod
    def _no_quote(cls, delimiter: str) -> str:
        if delimiter in '"\r\n':
            raise ValueError("a quote or the end of a line cannot be the delimiter")
        return delimiter

    def read(self) -> pd.DataFrame:
        """Everything as text. A line with too many fields is cut, one with too few filled up, an empty one left out."""
        import pandas as pd

        try:
            lines = self._lines()
            names = self._header(next(lines, ""))
            width = len(names)
            rows = []
            for line in lines:
                fields = [self._cell(field) for field in self._fields(line)]
                rows.append((*fields[:width], *[""] * (width - len(fields))))
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error, "CSV") from None
        columns = list(zip(*rows, strict=True)) if rows else [()] * width
        return pd.DataFrame({name: np.array(cells, dtype=object) for name, cells in zip(names, columns, strict=True)})

    def columns(self) -> list[str]:
        try:
            return self._header(next(self._lines(), ""))
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error, "CSV") from None

    def seen(self) -> str:
        return stamp(self.path)

    @property
    def files(self) -> Sequence[Path]:
        return (self.path,)

    def _lines(self) -> Iterator[str]:
        """Lines that hold something, without what other encodings leave in them."""
        with open(self.path, encoding=self.encoding, errors="replace", newline="\n") as file:
            for number, raw in enumerate(file):
                line = raw.rstrip("\r\n").replace("\0", "")
                if number == 0:
                    line = line.removeprefix("\ufeff")
                if line.strip():
                    yield line

    def _fields(self, line: str) -> list[str]:
        if '"' in line:
            try:
                return next(csv.reader([line], skipinitialspace=True, delimiter=self.delimiter), [""])
            except csv.Error:  # a field too long for it, or a line break of another kind
                pass
        return [field.lstrip() for field in line.split(self.delimiter)]

    def _cell(self, field: Any) -> Any:
        if field in self.nulls:
            return ""
        return field.replace(",", ".") if self.decimal == "," and _DECIMAL.fullmatch(field.strip()) else field

    def _header(self, line: str) -> list[str]:
        """Names, those that come again numbered. Raises ValueError when there are none."""
        names: list[str] = []
        for name in self._fields(line) if line else []:
            again = sum(name == other.rpartition(".")[0] or name == other for other in names)
            names.append(f"{name}.{again}" if again else name)
        if not names:
            raise ValueError("no header")
        return names
