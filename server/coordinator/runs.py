"""Runs of a deployed federation: submitted to the SuperLink, followed by the events their driver writes, resumed.

A run whose driver ends without a word (the machine went down, the coordinator was killed, the SuperLink was away for
longer than Flower's minute) is submitted again in the configuration it had, and goes on from its last round. What each
run was is kept in the home: runs/RUN.json, and runs/DIGEST.yaml with its configuration.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field

from pipeline.host.files import write_atomically
from pipeline.host.locking import is_locked, locked
from pipeline.kinds import INSTALLED, Frozen
from pipeline.language.config import Config
from pipeline.language.configfile import load_config
from pipeline.lifecycle import WHOLE, Part
from pipeline.store.metadata import new_run
from privacy.errors import FederationError, NotFound
from server.coordinator.home import LINK, CoordinatorHome
from server.coordinator.roster import flwr
from server.coordinator.runlog import RunLog, log_of

QUIET_SECONDS = 15.0
"""Asking the SuperLink starts Flower's command line, a second of work: only when nothing else tells."""
TEND_SECONDS = 2.0
ATTEMPTS = 5
LEAST_FREE = 2_000_000
"""Bytes on the workspace's disk below which a run that was cut off is not resumed: it could not even say why."""
SPACE = "Free some space and give the same command again: it goes on where it stopped."


class Submission(Frozen):
    """What was submitted as one run of the SuperLink."""

    config: str = Field(description="File of its configuration, beside this one.")
    number: str | None = Field(None, description="Flower's number of it; none until the SuperLink has taken it.")
    attempt: int = Field(1, description="How often it was submitted without reaching an end.")
    over: bool = Field(False, description="It was stopped by hand, or given up.")
    followed_by: str | None = Field(None, description="The run that goes on with it.")
    of: str | None = Field(None, description="The run of the lineage it works for; none: one of its own.")
    until: str | None = Field(None, description="The stage it ends with; none: the last.")


class Runs:
    """The runs of one coordinator, by their ids of eight hex digits."""

    def __init__(self, home: CoordinatorHome) -> None:
        self.home, self._folder = home, home.root / "runs"
        self._submitting = self._folder / "lock"
        self._asked: dict[str, float] = {}

    def submit(self, config: Config, part: Part = WHOLE) -> str:
        """Have the SuperLink run the lifecycle, or a part of it; the run's id. Raises FederationError.

        What is under way already for the same part of a named run is not submitted once more.
        """
        if not self.home.running:
            raise FederationError(
                f"no coordinator runs on {self.home.root}",
                remedy=f"Start it: sottovoce server start {self.home.root}",
            )
        content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.yaml"
        self._folder.mkdir(exist_ok=True, mode=0o700)
        write_atomically(self._folder / name, content)
        submission = Submission(config=name, of=part.run, until=part.until)
        with locked(self._folder / "submit.lock"):
            if part.run and (under_way := self._under_way(submission)):
                return under_way
            return self._submit(submission)

    def _under_way(self, wanted: Submission) -> str | None:
        for run in sorted(self._unfinished()):
            known = self.submission(run)
            if (known.config, known.of, known.until) == (wanted.config, wanted.of, wanted.until):
                return run
        return None

    def _submit(self, submission: Submission) -> str:
        root, run = self.home.root, new_run()
        paths = {
            "config": self._folder / submission.config,
            "workspace": self.home.workspace,
            "roster": root / "roster.json",
            "run": run,
            "of": submission.of or "",
            "until": submission.until or "",
        }
        settings = " ".join(f'{name}="{path}"' for name, path in paths.items())
        with locked(self._submitting):
            self._note(run, submission.model_copy(update={"number": None}))
            try:
                number = str(flwr(self.home, "run", str(root / "bundle"), LINK, "--run-config", settings)["run-id"])
            except FederationError:
                self._path(run).unlink()
                raise
            self._note(run, submission.model_copy(update={"number": number}))
        return run

    def stop(self, run: str) -> str:
        """For good: it is not resumed. The id of the run that was stopped. Raises NotFound, FederationError."""
        run = self.known(run)
        while following := self.submission(run).followed_by:
            run = following
        submission = self.submission(run)
        self._note(run, submission.model_copy(update={"over": True}))
        number = submission.number if self.home.running else None
        if number and not self.state(number).startswith("finished"):
            flwr(self.home, "stop", number, LINK)
        return run

    def known(self, prefix: str) -> str:
        """The run whose id begins so. Raises NotFound unless it is one."""
        every = sorted(path.stem for path in self._folder.glob("*.json"))
        found = [run for run in every if run.startswith(prefix)]
        if len(found) != 1 or not prefix:
            raise NotFound(f"{len(found)} runs begin with {prefix!r}", remedy=f"Known: {', '.join(every) or 'none'}.")
        return found[0]

    def config(self, run: str) -> Config:
        """The configuration a run has. Raises NotFound."""
        return load_config(self._folder / self.submission(self.known(run)).config)

    def submission(self, run: str) -> Submission:
        return Submission.model_validate_json(self._path(run).read_bytes(), context=INSTALLED)

    def log(self, run: str) -> RunLog:
        """What its driver has written."""
        return RunLog(log_of(self.home.workspace, run))

    def tend(self, stopped: threading.Event, say: Callable[[str], None]) -> None:
        """Submit again, until `stopped`, every run whose driver has ended without a word."""
        suspects: set[str] = set()
        while not stopped.wait(TEND_SECONDS):
            silent = set() if self._driven() else self._unfinished()
            for run in sorted(silent & suspects):
                try:
                    if self.log(run).path.exists() or self._never_began(run):
                        self._resume(run, say)
                except FederationError as error:  # the SuperLink is just starting again: at the next look
                    say(f"run {run} cannot be resumed yet: {error.cause}")
            suspects = silent  # twice in a row, because a driver may just be starting or ending

    def _never_began(self, run: str) -> bool:
        """Whether it ended before its driver wrote a word. Asked now and then: it may wait for another run."""
        if time.monotonic() - self._asked.get(run, -QUIET_SECONDS) < QUIET_SECONDS or is_locked(self._submitting):
            return False
        self._asked[run] = time.monotonic()
        number = self.submission(run).number
        return number is None or self.state(number).startswith("finished")

    def _resume(self, run: str, say: Callable[[str], None]) -> None:
        old = self.submission(run)
        if old.number and not self.state(old.number).startswith("finished"):
            flwr(self.home, "stop", old.number, LINK)
        if self.full:
            self._note(run, old.model_copy(update={"over": True}))
            say(f"run {run} was cut off: no space is left on the disk. {SPACE}")
            return
        if old.attempt >= ATTEMPTS:
            self._note(run, old.model_copy(update={"over": True}))
            say(f"run {run} was cut off {ATTEMPTS} times; it is not resumed again. See {self.home.root / 'logs'}")
            return
        again = self._submit(old.model_copy(update={"attempt": old.attempt + 1}))
        self._note(run, old.model_copy(update={"followed_by": again}))
        say(f"run {run} was cut off; it goes on as run {again}")

    def state(self, number: str) -> str:
        """Of one of Flower's runs: `pending`, `running`, `finished:completed`, `finished:failed`, `finished:stopped`;
        `finished:forgotten` when the SuperLink's state was made anew since. Raises FederationError."""
        try:
            return str(flwr(self.home, "list", LINK, "--run-id", number)["runs"][0]["status"])
        except FederationError as error:
            if "Run ID not found" in error.cause:
                return "finished:forgotten"
            raise

    @property
    def full(self) -> bool:
        """Whether the workspace's disk has no room for a run to go on."""
        place = self.home.workspace if self.home.workspace.exists() else self.home.root
        return shutil.disk_usage(place).free < LEAST_FREE

    def _unfinished(self) -> set[str]:
        return {path.stem for path in self._folder.glob("*.json") if not self.over(path.stem)}

    def over(self, run: str) -> bool:
        """Whether it reached an end, was stopped by hand, or goes on as another run."""
        submission = self.submission(run)
        return submission.over or submission.followed_by is not None or self.log(run).ended

    def _driven(self) -> bool:
        """Whether a driver holds the workspace."""
        return is_locked(self.home.workspace / "lock")

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.json"

    def _note(self, run: str, submission: Submission) -> None:
        write_atomically(self._path(run), submission.model_dump_json().encode())
