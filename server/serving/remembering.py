"""Rows of predictions, kept until their outcomes come: written aside, some at a time, so that no answer waits."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from privacy.errors import SottovoceError
from server.evidence.outcomes import Outcomes, Record
from server.evidence.receipts import prediction_of
from server.serving.measures import Measures

logger = logging.getLogger("sottovoce.serving")

MOST = 20_000
"""Predictions that wait to be written; of more the rows are not kept, and counted as lost."""
PAUSE = 0.2
"""Seconds for which rows are gathered: what a replica that is killed may lose."""


class Memory:
    """Of one replica. What cannot be written is lost, counted and logged: a prediction does not depend on it."""

    def __init__(self, outcomes: Outcomes, model: str, measures: Measures) -> None:
        self._outcomes, self._model, self._measures = outcomes, model, measures
        self._waiting: queue.Queue[tuple[str, str, float, Sequence[Mapping[str, Any]]]] = queue.Queue(MOST)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="remembering", daemon=True)
        self._thread.start()

    def keep(self, id: str, subject: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """id: of the prediction. subject: a digest of whom it is about, or empty."""
        try:
            self._waiting.put_nowait((id, subject, time.time(), rows))
        except queue.Full:
            self._measures.lost.inc(len(rows))

    def close(self) -> None:
        """Write what waits, and take no more."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._stop.wait(PAUSE):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        found = []
        while not self._waiting.empty():
            id, subject, asked, rows = self._waiting.get_nowait()
            found += [Record(prediction_of(id), at, self._model, subject, asked, row) for at, row in enumerate(rows)]
        if not found:
            return
        try:
            self._outcomes.keep(found)
        except SottovoceError as error:
            self._measures.lost.inc(len(found))
            logger.error("rows lost", extra={"cause": error.cause})
