"""Rows of predictions, kept until their outcomes come: written aside, some at a time, so that no answer waits."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from server.evidence.outcomes import Outcomes, Record
from server.evidence.receipts import prediction_of
from server.serving.gateway.measures import Measures

logger = logging.getLogger("sottovoce.serving")

MOST = 64 * 2**20
"""Characters that wait to be written; what comes when there are more is not kept, and counted as lost."""
PAUSE = 0.2
"""Seconds for which rows are gathered: what a replica that is killed may lose."""


class Memory:
    """Of one replica. What cannot be written is lost, counted and logged: a prediction does not depend on it."""

    def __init__(self, outcomes: Outcomes, model: str, measures: Measures) -> None:
        self._outcomes, self._model, self._measures = outcomes, model, measures
        self._waiting: deque[Record] = deque()
        self._size, self._lock = 0, threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="remembering", daemon=True)
        self._thread.start()

    def keep(self, id: str, label: str, subject: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """id: of the prediction. label: the column in which an outcome stands. subject: a digest, or empty."""
        prediction, now = prediction_of(id), time.time()
        made = [
            Record(prediction, at, self._model, label, subject, now, json.dumps(row)) for at, row in enumerate(rows)
        ]
        size = sum(len(record.document) for record in made)
        with self._lock:
            if self._size + size <= MOST:
                self._waiting.extend(made)
                self._size += size
                return
        self._measures.lost.inc(len(made))

    def close(self) -> None:
        """Write what waits, and take no more."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._stop.wait(PAUSE):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            found, self._waiting, size = list(self._waiting), deque(), self._size
        if not found:
            return
        try:
            self._outcomes.keep(found)
        except Exception as error:  # whatever it is: the next rows may be written
            self._measures.lost.inc(len(found))
            logger.error("rows lost", extra={"cause": type(error).__name__})
        finally:
            with self._lock:
                self._size -= size
