"""Rows of predictions whose outcomes have come, as the endpoint keeps them (serving.feedback.keep_rows)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from clients.sources.source import Source
from clients.sources.sql import Connected, url_of
from privacy.errors import ContractViolated

if TYPE_CHECKING:
    import pandas as pd

TABLE = "feedback_records"
SUBJECT = "subject"


class Stream(Source):
    """It grows: every row has the raw columns of its question, and the outcome in the column of the label.

    `key: [subject]` tells persons apart by a digest of whom a question was about; who asked about nobody is left out.
    """

    kind: Literal["stream"] = Field(description="Rows of predictions whose outcomes have come.")
    url: str = Field(description="SQLAlchemy URL of the outcomes: sqlite:////WORKSPACE/serving/feedback.db.")
    model: str = Field(description="Of which model.")

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return url_of(url)

    def read(self) -> pd.DataFrame:
        """Raises SourceMissing, ContractViolated."""
        import pandas as pd

        with Connected(self.url) as connection:
            found = connection.execute(self._asked("document, subject", "ORDER BY number"), {"model": self.model})
            rows = [{**self._of(subject), **json.loads(document)} for document, subject in found]
        if not rows:
            raise ContractViolated(
                f"no outcome of {self.model} has come yet",
                remedy="Serve with serving.feedback.keep_rows: true, and POST /feedback.",
            )
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pd.DataFrame({name: _cells([row.get(name) for row in rows]) for name in names})

    def columns(self) -> list[str]:
        return list(self.read().columns)

    def seen(self) -> str:
        """How many there are, and when the last of them changed."""
        with Connected(self.url) as connection:
            asked = self._asked("count(*), max(number), max(changed)")
            return " ".join(map(str, (self.url, self.model, *connection.execute(asked, {"model": self.model}).one())))

    def _of(self, subject: str) -> dict[str, str]:
        return {SUBJECT: subject} if SUBJECT in self.key else {}

    def _asked(self, what: str, then: str = "") -> Any:
        from sqlalchemy import text

        return text(f"SELECT {what} FROM {TABLE} WHERE model = :model AND changed IS NOT NULL {then}")  # noqa: S608


def _cells(cells: list[object]) -> Any:
    made = np.empty(len(cells), dtype=object)
    made[:] = cells
    return made
