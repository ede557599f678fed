"""A folder of CSV or Parquet files of one shape, such as one a month."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from clients.sources.source import LEFT_OUT, Source, as_tree, stamp
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".csv", ".parquet")


class Folder(Source):
    """All of them are one table: in the order of their names, with the same columns."""

    kind: Literal["folder"] = Field(description="A folder of CSV or Parquet files.")
    path: Path = Field(description="Where it lies.")
    read_as: dict[str, Any] = Field(default_factory=dict, description="Settings of every CSV file in it.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        self._of(Path("any.csv"))
        return self

    def read(self) -> pd.DataFrame:
        return joined([self._of(path) for path in self.files])

    def columns(self) -> list[str]:
        return self._of(self.files[0]).columns()

    def seen(self) -> str:
        return "\n".join(stamp(path) for path in self.files)

    @property
    def files(self) -> Sequence[Path]:
        """Raises SourceMissing when there is none."""
        try:
            found = sorted(path for path in self.path.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
        except OSError:
            found = []
        if not found:
            raise SourceMissing(f"{self.path} is no folder with CSV or Parquet files", remedy="Correct source.path.")
        return found

    def _of(self, path: Path) -> Source:
        settings = self.read_as if path.suffix.lower() == ".csv" else {}
        return Source.of({**as_tree(path), **settings})


def joined(sources: Sequence[Source]) -> pd.DataFrame:
    """The rows of all of them. Raises ContractViolated when their columns are not the same."""
    import pandas as pd

    frames = [source.read() for source in sources]
    for frame in frames[1:]:
        if set(frame.columns) != set(frames[0].columns):
            odd = sorted(map(str, set(frame.columns) ^ set(frames[0].columns)))
            raise ContractViolated(f"the tables of the source have not the same columns: {', '.join(odd)}")
    whole = [frame[list(frames[0].columns)].astype(object) for frame in frames]
    left_out = [str(frame.attrs[LEFT_OUT]) for frame in frames if LEFT_OUT in frame.attrs]
    made = pd.concat(whole, ignore_index=True)
    made.attrs = {LEFT_OUT: "; ".join(left_out)} if left_out else {}
    return made
