"""A question to the versions, however it came: rows of named raw values, answered by one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.serving.measures import Measures
from server.serving.refusal import Refused
from server.serving.shelf import Shelf
from server.serving.version import RowsRefused, ServedModel

LONGEST_SUBJECT = 256
"""Characters."""


@dataclass(frozen=True)
class Answered:
    """By which version, and what it says of each row."""

    model: ServedModel
    predictions: list[dict[str, Any]]


@dataclass(frozen=True)
class Desk:
    """Where questions are answered, one at a time."""

    shelf: Shelf
    measures: Measures
    max_rows: int
    decimals: int | None

    def ask(self, rows: Sequence[Mapping[str, Any]], version: str | None, subject: str | None) -> Answered:
        """Raises Refused."""
        if not rows:
            raise Refused(422, "no rows: expected at least one")
        if len(rows) > self.max_rows:
            raise Refused(413, f"{len(rows)} rows; at most {self.max_rows} in one request")
        if subject is not None and len(subject) > LONGEST_SUBJECT:
            raise Refused(422, f"a subject of {len(subject)} characters; at most {LONGEST_SUBJECT}")
        model = self.shelf.chosen(version, subject)
        try:
            predictions = model.predict(rows)
        except RowsRefused as error:
            raise Refused(422, str(error)) from None
        self.measures.rows.labels(str(model.number)).inc(len(rows))
        for other in self.shelf.shadows(model.number):
            self._compare(other, rows, predictions)
        if self.decimals is not None:
            predictions = [_rounded(said, self.decimals) for said in predictions]
        return Answered(model, predictions)

    def _compare(self, other: ServedModel, rows: Sequence[Mapping[str, Any]], told: list[dict[str, Any]]) -> None:
        """What a shadow would have said; whatever is wrong with it is nobody's trouble who asked."""
        label = str(other.number)
        self.measures.shadow.labels(label).inc(len(rows))
        try:
            said = other.predict(rows)
        except Exception:  # a graph's own errors have no common root
            said = []
        same = sum(one == two for one, two in zip(said, told, strict=False))
        self.measures.differing.labels(label).inc(len(rows) - same)


def _rounded(said: Any, decimals: int) -> Any:
    if isinstance(said, float):
        return round(said, decimals)
    if isinstance(said, dict):
        return {name: _rounded(value, decimals) for name, value in said.items()}
    return [_rounded(value, decimals) for value in said] if isinstance(said, list) else said
