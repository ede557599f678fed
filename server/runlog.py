"""What the driver of a run has written, and following it to the run's end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.progress import Notice, Progress, event_of
from pipeline.report import Report
from privacy.errors import FederationError, SottovoceError, StorageFull, coded
from server.app import END, ERROR, REPORT, log_of

if TYPE_CHECKING:
    from server.runs import Runs

POLL_SECONDS = 0.25
PATIENCE = 600.0
"""Seconds for which a run is followed while no coordinator runs: it goes on when one is started."""


class RunLog:
    """Lines of JSON that grow; a line that is not whole is not there yet."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._at)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            try:
                fields = json.loads(line)
            except ValueError:  # a disk that was full tore it
                continue
            if isinstance(fields, dict):
                yield fields

    @property
    def ended(self) -> bool:
        """Whether the driver has said its last word."""
        if not self.path.exists():
            return False
        with open(self.path, "rb") as file:
            file.seek(max(0, self.path.stat().st_size - 200))
            last = file.read()
        return last.endswith(b"\n") and f'"event": "{END}"'.encode() in last.splitlines()[-1]


class Follower:
    """Tells of one run, and of the runs that go on with it. time: when what is told happened."""

    def __init__(self, runs: Runs, run: str) -> None:
        self._runs = runs
        self.time = time.time()
        self._begin(run)

    def _begin(self, run: str) -> None:
        self.run, self._log = run, RunLog(log_of(self._runs.home.workspace, run))
        self._report: Report | None = None
        self._error: SottovoceError | None = None
        self._ended = False

    def follow(self, progress: Progress) -> Report:
        """Tell what happens until the run has ended. Raises the error it ended with, or FederationError, StorageFull
        when it was stopped or given up."""
        alone = 0.0
        while True:
            submission = self._runs.submission(self.run)  # before the log: the last line may just be written
            for fields in self._log.news():
                self._hear(fields, progress)
            if self._ended:
                return self._outcome()
            if submission.followed_by:
                self._begin(submission.followed_by)
                self._tell(progress, f"resumed as run {self.run}")
            elif submission.over:
                raise self._given_up()
            elif self._runs.home.running:
                alone = 0.0
            elif not alone:
                alone = time.monotonic()
                self._tell(progress, "the coordinator is not running; the run goes on when it is started")
            elif time.monotonic() - alone > PATIENCE:
                raise FederationError("the coordinator is not running", remedy="Start it: the run goes on by itself.")
            time.sleep(POLL_SECONDS)

    def _hear(self, fields: dict[str, Any], progress: Progress) -> None:
        kind = fields.pop("event", "")
        self.time = float(fields.pop("time", self.time))
        if kind == END:
            self._ended = True
        elif kind == REPORT:
            self._report = Report.model_validate(fields)
        elif kind == ERROR:
            self._error = coded(**fields)
        elif event := event_of({"event": kind, **fields}):
            progress(event)

    def _tell(self, progress: Progress, text: str) -> None:
        self.time = time.time()
        progress(Notice(text))

    def _outcome(self) -> Report:
        if self._error:
            self._error.remedy = f"{self._error.remedy} {self._again}".strip()
            raise self._error
        if self._report:
            return self._report
        raise FederationError(f"run {self.run} ended without a word", remedy=self._again)

    def _given_up(self) -> SottovoceError:
        if self._runs.full:
            return StorageFull(f"run {self.run} ended: no space is left on the disk", remedy=self._again)
        return FederationError(f"run {self.run} was stopped", remedy=self._again)

    @property
    def _again(self) -> str:
        return f"Resume with: sottovoce run --resume {self.run}"
