"""Following a run to its end, and the runs that go on with it."""

from __future__ import annotations

import time
from typing import Any

from pipeline.engine.progress import Notice, Progress, event_of
from pipeline.reporting.report import Report
from privacy.errors import FederationError, SottovoceError, StorageFull, coded
from server.coordinator.runlog import END, ERROR, REPORT, RunLog, log_of
from server.coordinator.runs import Runs, Submission

POLL_SECONDS = 0.25
PATIENCE = 600.0
"""Seconds for which a run is followed while no coordinator runs: it goes on when one is started."""


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

    def follow(self, progress: Progress) -> Report | None:
        """Tell what happens until the run has ended; None: it was asked for a part of the lifecycle only.

        Raises the error it ended with, or FederationError, StorageFull when it was stopped or given up.
        """
        alone = 0.0
        while True:
            submission = self._runs.submission(self.run)  # before the log: the last line may just be written
            for fields in self._log.news():
                self._hear(fields, progress)
            if self._ended:
                return self._outcome(submission)
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

    def _outcome(self, submission: Submission) -> Report | None:
        if self._error:
            self._error.remedy = f"{self._error.remedy} {self._again}".strip()
            raise self._error
        if self._report:
            return self._report
        if submission.until:
            return None
        raise FederationError(f"run {self.run} ended without a word", remedy=self._again)

    def _given_up(self) -> SottovoceError:
        if self._runs.full:
            return StorageFull(f"run {self.run} ended: no space is left on the disk", remedy=self._again)
        return FederationError(f"run {self.run} was stopped", remedy=self._again)

    @property
    def _again(self) -> str:
        return f"Resume with: sottovoce run --resume {self.run}"
