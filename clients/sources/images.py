"""A folder of images, and a table that says which of them belongs to which record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from clients.sources.source import Source, as_tree
from pipeline.learning.cells import text_of
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 50_000_000
"""Of an image's file; a larger one is taken for none."""


class Images(Source):
    """The table, in which the path of each image is replaced by what is in its file; nothing where there is none."""

    kind: Literal["images"] = Field(description="A folder of images with a table.")
    path: Path = Field(description="The folder.")
    table: Source = Field(description="The table: a source of its own, or the path of a file.")
    column: str = Field(description="Its column that holds each image's path in the folder.")

    @field_validator("table", mode="before")
    @classmethod
    def _short(cls, table: Any) -> Any:
        return as_tree(table)

    def read(self) -> pd.DataFrame:
        """Raises ContractViolated when the table has no such column."""
        frame = self.table.read()
        if self.column not in frame:
            raise ContractViolated(
                f"the table of the images has no column {self.column}", remedy="Correct source.column."
            )
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path} is no folder", remedy="Correct source.path in policy.yaml.")
        cells = np.empty(len(frame), dtype=object)
        cells[:] = [self._content(text_of(cell)) for cell in frame[self.column]]
        return frame.assign(**{self.column: cells})

    def columns(self) -> list[str]:
        return self.table.columns()

    def seen(self) -> str | None:
        """Of the table, and of every file below the folder."""
        of_table = self.table.seen()
        if of_table is None:
            return None
        found = [(path, path.stat()) for path in sorted(self.path.rglob("*")) if path.is_file()]
        return "\n".join([of_table, *(f"{path} {at.st_size} {at.st_mtime_ns}" for path, at in found)])

    @property
    def files(self) -> Sequence[Path]:
        return [*self.table.files, *sorted(path for path in self.path.rglob("*") if path.is_file())]

    def _content(self, name: str) -> bytes | None:
        """Of a file below the folder, and of no other."""
        root = self.path.resolve()
        try:
            place = (root / name).resolve()
            if not name or not place.is_relative_to(root) or place.stat().st_size > MOST_BYTES:
                return None
            return place.read_bytes()
        except (OSError, ValueError):
            return None
