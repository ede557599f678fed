"""Rows of predictions whose outcomes have come, as the endpoint keeps them (serving.feedback.keep_rows)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from clients.sources.source import Source
from clients.sources.sql import Connected
from pipeline.host.databases import named_database
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd

TABLE = "feedback_records"
SUBJECT = "subject"
_SQLITE = "sqlite:///"


class Stream(Source):
    """It grows: every row has the raw columns of its question, and the outcome in the column of the label.

    `key: [subject]` tells persons apart by a digest of whom a question was about; who asked about nobody is left out.
    """

    kind: Literal["stream"] = Field(description="Rows of predictions whose outcomes have come.")
    url: str = Field(description="SQLAlchemy URL of the outcomes: sqlite:////WORKSPACE/serving/feedback.db.")
    model: str = Field(description="Of which model.")
    hours: float = Field(
        24.0,
        gt=0,
        description="The table grows once in so many hours, at full ones since 1970, and not in between: a run finds "
        "it the same from its start to its end.",
    )

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return named_database(url, "reader", "policy")

    def read(self) -> pd.DataFrame:
        """Raises SourceMissing, ContractViolated."""
        import pandas as pd

        found = self._rows("document, subject", "ORDER BY number")
        rows = [{**self._of(subject), **json.loads(document)} for document, subject in found]
        if not rows:
            raise ContractViolated(
                f"no outcome of {self.model} has come yet, or none before the table grew last",
                remedy="Serve with serving.feedback.keep_rows: true, POST /feedback, and wait for source.hours.",
            )
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pd.DataFrame({name: _cells([row.get(name) for row in rows]) for name in names})

    def columns(self) -> list[str]:
        return list(self.read().columns)

    def seen(self) -> str:
        """How many rows there are, which is the last, and how often outcomes were corrected."""
        [counts] = self._rows("count(*), max(number), sum(corrections)")
        return " ".join(map(str, (self.url, self.model, *counts)))

    def _of(self, subject: str) -> dict[str, str]:
        return {SUBJECT: subject} if SUBJECT in self.key else {}

    def _rows(self, what: str, then: str = "") -> list[Any]:
        from sqlalchemy import text

        if self.url.startswith(_SQLITE) and not Path(self.url.removeprefix(_SQLITE)).exists():
            raise SourceMissing(  # looking would make an empty one
                f"there are no outcomes at {self.url}", remedy="Correct source.url, or serve and POST /feedback first."
            )
        period = self.hours * 3600
        asked = text(f"SELECT {what} FROM {TABLE} WHERE model = :model AND labelled < :until {then}")  # noqa: S608
        with Connected(self.url) as connection:
            return list(connection.execute(asked, {"model": self.model, "until": time.time() // period * period}))


def _cells(cells: list[object]) -> Any:
    made = np.empty(len(cells), dtype=object)
    made[:] = cells
    return made
