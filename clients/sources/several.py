"""Several sources of one shape, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from clients.sources.folder import joined
from clients.sources.source import Source, as_tree

if TYPE_CHECKING:
    import pandas as pd


class Several(Source):
    """The rows of all of them, one source after the other."""

    kind: Literal["several"] = Field(description="Several sources with the same columns.")
    sources: tuple[Source, ...] = Field(min_length=1, description="Each of them.")

    @field_validator("sources", mode="before")
    @classmethod
    def _short(cls, sources: Any) -> Any:
        return [as_tree(source) for source in sources] if isinstance(sources, list | tuple) else sources

    def read(self) -> pd.DataFrame:
        return joined(self.sources)

    def columns(self) -> list[str]:
        return self.sources[0].columns()

    def seen(self) -> str | None:
        every = [source.seen() for source in self.sources]
        return None if None in every else "\n".join(map(str, every))

    @property
    def files(self) -> Sequence[Path]:
        return [path for source in self.sources for path in source.files]
