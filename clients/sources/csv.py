"""A CSV file, cell by cell.

A field ends with its line (a quote that is not closed would swallow the records after it), and bytes that are not of
the declared encoding are replaced. A line whose fields are not those of the header is no record: which of its fields
belongs where nobody can tell, so it is left out, and never shifted. Its owner is told by number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from clients.sources.source import LEFT_OUT, Source, stamp, unreadable

if TYPE_CHECKING:
    import pandas as pd

TOLD = 20
"""Numbers of lines that are told, at most."""
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
        """Everything as text. An empty line is no record; empty fields after the last one are nothing."""
        import pandas as pd

        try:
            lines = self._lines()
            names = self._header(next(lines, (1, ""))[1])
            width = len(names)
            rows, odd = [], []
            for number, line in lines:
                fields = self._fields(line)
                if len(fields) < width or any(field.strip() for field in fields[width:]):
                    odd.append(number)
                    continue
                rows.append(tuple(self._cell(field) for field in fields[:width]))
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error, "CSV") from None
        columns = list(zip(*rows, strict=True)) if rows else [()] * width
        frame = pd.DataFrame({name: np.array(cells, dtype=object) for name, cells in zip(names, columns, strict=True)})
        if odd:
            frame.attrs[LEFT_OUT] = (
                f"{self.path.name}: {len(odd)} lines have not the {width} fields of the header: "
                f"{', '.join(map(str, odd[:TOLD]))}{', ...' if len(odd) > TOLD else ''}"
            )
        return frame

    def columns(self) -> list[str]:
        try:
            return self._header(next(self._lines(), (1, ""))[1])
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error, "CSV") from None

    def seen(self) -> str:
        return stamp(self.path)

    @property
    def files(self) -> Sequence[Path]:
        return (self.path,)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbers, from 1, and lines that hold something, without what other encodings leave in them."""
        with open(self.path, encoding=self.encoding, errors="replace", newline="\n") as file:
            for number, raw in enumerate(file):
                line = raw.rstrip("\r\n").replace("\0", "")
                if number == 0:
                    line = line.removeprefix("\ufeff")
                if line.strip():
                    yield number + 1, line

    def _fields(self, line: str) -> list[str]:
        """Nothing where a quote does not close, or more follows it: then nobody can tell."""
        if '"' in line:
            try:
                return next(csv.reader([line], skipinitialspace=True, delimiter=self.delimiter, strict=True), [])
            except csv.Error:
                return []
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
