"""Where the data lie: how they are read, and how it is seen that they have changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.kinds import Kind
from pipeline.learning.cells import texts
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd

LEFT_OUT = "left out"
"""In `attrs` of a table: what of its file is no record, in words for the owner alone."""


class Source(Kind):
    """A table, one record a row. No record decides how another one is read, or whether it is."""

    BUILT_IN: ClassVar[Mapping[str, str]] = {
        "csv": "clients.sources.csv:Csv",
        "parquet": "clients.sources.parquet:Parquet",
        "folder": "clients.sources.folder:Folder",
        "sql": "clients.sources.sql:Sql",
        "stream": "clients.sources.stream:Stream",
        "images": "clients.sources.images:Images",
        "callable": "clients.sources.function:Function",
        "several": "clients.sources.several:Several",
    }

    key: tuple[str, ...] = Field(
        (), description="Columns that identify a person; then all of a person's rows are in one split."
    )

    @abstractmethod
    def read(self) -> pd.DataFrame:
        """The whole table. Raises SourceMissing; ContractViolated for what is no table."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Names of its columns, read without its records where that can be. Raises as `read`."""

    @abstractmethod
    def seen(self) -> str | None:
        """What can be seen of it at little cost: while it is the same, so is the table. None: it has to be read.

        Raises SourceMissing.
        """

    def persons(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns of its table that say whose record a row is: the key, or all of them, where each is its own.

        Rows whose key says nothing are left out: whether a row is depends on that row alone, and is no answer. Raises
        ContractViolated for a key that is not there.
        """
        if not self.key:
            return frame
        if missing := [name for name in self.key if name not in frame]:
            raise ContractViolated(
                f"the key names {', '.join(missing)}, which is no column", remedy="Correct source.key."
            )
        return frame.loc[~self._nobody(frame), list(self.key)]

    def check(self) -> None:
        """For its owner, before anything starts. Raises ContractViolated for what would be left out: lines that are no
        records, rows whose key says nothing."""
        frame = self.read()
        if LEFT_OUT in frame.attrs:
            raise ContractViolated(
                str(frame.attrs[LEFT_OUT]),
                remedy="Correct these lines (a delimiter within a text needs quotes), or state the source's delimiter.",
            )
        self.persons(frame)
        if (nobody := int(self._nobody(frame).sum())) > 0:
            raise ContractViolated(
                f"{nobody} rows do not say whose they are: {', '.join(self.key)} is empty there",
                remedy="Complete source.key in the data, or take those rows out.",
            )

    def _nobody(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Whether a part of the key is empty."""
        empty = np.zeros(len(frame), dtype=np.bool_)
        for name in self.key:
            empty |= texts(frame[name]) == ""
        return empty

    @property
    def files(self) -> Sequence[Path]:
        """Files that it consists of, if any: for a digest of what is in them."""
        return ()


def as_tree(value: Any) -> Any:
    """A path is short for the file that it names; a list for several of them."""
    if isinstance(value, str | Path):
        path = Path(value)
        return {"kind": "parquet" if path.suffix.lower() == ".parquet" else "csv", "path": path}
    if isinstance(value, list | tuple):
        return {"kind": "several", "sources": value}
    return value


def stamp(path: Path) -> str:
    """Place, size and time of a file. Raises SourceMissing."""
    try:
        found = path.stat()
    except OSError:
        raise SourceMissing(f"{path} cannot be read", remedy="Correct source in policy.yaml.") from None
    return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def unreadable(path: Path, error: Exception, what: str) -> SourceMissing | ContractViolated:
    """The error for a file that cannot be read as `what`."""
    if isinstance(error, OSError) and not path.is_file():
        return SourceMissing(f"{path} cannot be read", remedy="Correct source in policy.yaml.")
    return ContractViolated(f"{path} is not a readable {what} table")
