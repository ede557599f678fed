"""A question to the versions, however it came: rows of named raw values, answered by one of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.evidence.receipts import Receipts
from server.serving.gateway.intake import Intake
from server.serving.gateway.measures import Measures
from server.serving.gateway.remembering import Memory
from server.serving.refusal import Refused
from server.serving.traffic.shelf import Shelf
from server.serving.version import RowsRefused, Said, ServedModel

LONGEST_SUBJECT = 256
"""Characters."""


@dataclass(frozen=True)
class Answered:
    """By which version, and what it says of each row. id: of the prediction."""

    model: ServedModel
    predictions: list[dict[str, Any]]
    id: str


@dataclass(frozen=True)
class Desk:
    """Where questions are answered, one at a time. memory: of rows, where they are kept."""

    shelf: Shelf
    measures: Measures
    receipts: Receipts
    max_rows: int
    decimals: int | None
    memory: Memory | None = None
    intake: Intake | None = None

    def ask(
        self,
        rows: Sequence[Mapping[str, Any]],
        version: str | None,
        subject: str | None,
        *,
        explained: bool = False,
    ) -> Answered:
        """Raises Refused."""
        if not rows:
            raise Refused(422, "no rows: expected at least one")
        if len(rows) > self.max_rows:
            raise Refused(413, f"{len(rows)} rows; at most {self.max_rows} in one request")
        if subject is not None and len(subject) > LONGEST_SUBJECT:
            raise Refused(422, f"a subject of {len(subject)} characters; at most {LONGEST_SUBJECT}")
        model = self.shelf.chosen(version, subject)
        said = self._said(model, rows, drawn=version is None, explained=explained)
        told = {model.number: said.numbers}
        for other in self.shelf.shadows(model.number):
            if (beside := self._beside(other, rows, said)) is not None:
                told[other.number] = beside.numbers
        lineup = self.shelf.lineup
        drawn = version is None and len(lineup.shares) > 1
        id = self.receipts.made(
            model.number,
            subject,
            told,
            hashlib.sha256(lineup.salt.encode()).digest()[:4] if drawn else b"",
            lineup.shares if drawn else None,
        )
        if self.intake and model.question:
            self.intake.take(model.number, rows)
        if self.memory:
            unit = self.receipts.unit(subject).hex() if subject is not None else ""
            self.memory.keep(id, model.spec.task.column, unit, rows)
        answers = said.answers
        if said.added is not None:
            answers = [{**answer, "contributions": each} for answer, each in zip(answers, said.added, strict=True)]
        if self.decimals is not None:
            answers = [_rounded(answer, self.decimals) for answer in answers]
        return Answered(model, answers, id)

    def _said(self, model: ServedModel, rows: Sequence[Mapping[str, Any]], *, drawn: bool, explained: bool) -> Said:
        """drawn: nobody named the version, so that how it does is evidence for it. Raises Refused."""
        begun = time.perf_counter()
        try:
            said = model.said(rows, explained=explained)
        except RowsRefused as error:
            raise Refused(422, str(error)) from None
        except Exception:
            if drawn:
                self.measures.of_version(model.number).failed.inc()
            raise
        measured = self.measures.of_version(model.number)
        measured.rows.inc(len(rows))
        if drawn:
            measured.seconds.observe((time.perf_counter() - begun) / len(rows))
        return said

    def _beside(self, other: ServedModel, rows: Sequence[Mapping[str, Any]], told: Said) -> Said | None:
        """What a shadow would have said; whatever is wrong with it is nobody's trouble who asked."""
        label = str(other.number)
        self.measures.shadow.labels(label).inc(len(rows))
        try:
            said = other.said(rows)
            same = sum(one == two for one, two in zip(said.answers, told.answers, strict=True))
        except Exception:  # a graph's own errors have no common root
            said, same = None, 0
        self.measures.differing.labels(label).inc(len(rows) - same)
        return said if said and said.numbers.shape == told.numbers.shape else None


def _rounded(said: Any, decimals: int) -> Any:
    if isinstance(said, float):
        return round(said, decimals)
    if isinstance(said, dict):
        return {name: _rounded(value, decimals) for name, value in said.items()}
    return [_rounded(value, decimals) for value in said] if isinstance(said, list) else said
