"""How the rows that an endpoint is asked about are distributed: counted as the training data was, some of them, aside.

An answer waits for none of it. Counts are of the latest rows only, so that a change shows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from privacy.noise import Integers

if TYPE_CHECKING:
    from server.serving.version import ServedModel

logger = logging.getLogger("sottovoce.serving")

SAMPLED = 200
"""Rows, at most, that are counted of what came between two looks: the latest."""
WINDOW = 2000
"""Rows of a version after which the older half of what was counted is forgotten."""


class Intake:
    """Of one replica."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Mapping[str, Any]]] = {}
        self._windows: dict[int, list[dict[str, Integers]]] = {}

    def take(self, version: int, rows: Sequence[Mapping[str, Any]]) -> None:
        waiting = self._waiting.get(version)
        if waiting is None:
            waiting = self._waiting.setdefault(version, deque(maxlen=SAMPLED))
        waiting.extend(rows[-SAMPLED:])

    def count(self, models: Mapping[int, ServedModel]) -> None:
        """Count what came since, by the questions that the versions have; of a version without one nothing is."""
        for version in list(self._waiting):
            rows = self._waiting.pop(version)
            model = models.get(version)
            if model is None or model.question is None:
                continue
            try:
                self._add(version, self._counted(model, list(rows)))
            except Exception as error:  # a column of somebody's own
                logger.error("inputs not counted", extra={"version": version, "cause": type(error).__name__})
        for version in set(self._windows) - set(models):
            del self._windows[version]

    @staticmethod
    def _counted(model: ServedModel, rows: list[Mapping[str, Any]]) -> dict[str, Integers]:
        import pandas as pd

        question = model.question
        assert question is not None  # noqa: S101  # asked before
        found = {}
        for name, column in question.columns.items():
            cells = pd.Series([column.accepted(row[name]) for row in rows], dtype=column.dtype)
            found[name] = np.bincount(column.binned(cells, question.fine), minlength=column.bins(question.fine))
        return found

    def _add(self, version: int, counts: dict[str, Integers]) -> None:
        windows = self._windows.setdefault(version, [])
        if not windows or _rows(windows[-1]) >= WINDOW // 2:
            windows.append({name: np.zeros_like(each) for name, each in counts.items()})
            del windows[:-2]
        for name, each in counts.items():
            windows[-1][name] += each

    @property
    def counted(self) -> dict[str, dict[str, list[int]]]:
        """Counts by version and column, of the latest rows."""
        return {
            str(version): {name: sum(window[name] for window in windows).tolist() for name in windows[-1]}  # type: ignore[union-attr]
            for version, windows in self._windows.items()
        }


def _rows(counts: Mapping[str, Integers]) -> int:
    return int(next(iter(counts.values())).sum()) if counts else 0
