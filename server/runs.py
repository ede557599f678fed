"""Runs of a deployed federation: submitted to the SuperLink, followed by the lines their driver writes, resumed.

A run whose driver ends without a word (the machine went down, the coordinator was killed, the SuperLink was away for
longer than Flower's minute) is submitted again in the configuration it had, and goes on from its last round. What each
run was is kept in the home: runs/NUMBER.json, and runs/DIGEST.yaml with its configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field

from pipeline.config import Config
from pipeline.contract import Frozen
from pipeline.files import write_atomically
from privacy.errors import FederationError, NotFound, StorageFull
from server.app import END
from server.home import LINK, CoordinatorHome
from server.roster import flwr

POLL_SECONDS, QUIET_SECONDS = 0.25, 15.0
"""Asking the SuperLink starts Flower's command line, a second of work: only at the end, or when nothing is heard."""
TEND_SECONDS = 2.0
PATIENCE = 600.0
"""Seconds for which a run is followed while no coordinator runs: it goes on when one is started."""
ATTEMPTS = 5
LEAST_FREE = 2_000_000
"""Bytes on the workspace's disk below which a run that was cut off is not resumed: it could not even say why."""
_SPACE = "Free some space and give the same command again: it goes on where it stopped."


class Submission(Frozen):
    """What was submitted as one run of the SuperLink."""

    config: str = Field(description="File of its configuration, beside this one.")
    attempt: int = Field(1, description="How often it was submitted without reaching an end.")
    over: bool = Field(False, description="It was stopped by hand, or given up.")
    followed_by: str | None = Field(None, description="The run that goes on with it.")


class Runs:
    """The runs of one coordinator."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home, self._folder = home, home.root / "runs"
        self._asked: dict[str, float] = {}

    def submit(self, config: Config) -> str:
        """Have the SuperLink run the lifecycle; the run's number. Raises FederationError."""
        if not self._home.running:
            raise FederationError(
                f"no coordinator runs on {self._home.root}",
                remedy=f"Start it: sottovoce server start {self._home.root}",
            )
        content = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.yaml"
        self._folder.mkdir(exist_ok=True, mode=0o700)
        write_atomically(self._folder / name, content)
        return self._submit(Submission(config=name))

    def _submit(self, submission: Submission) -> str:
        root = self._home.root
        paths = {
            "config": self._folder / submission.config,
            "workspace": self._home.workspace,
            "roster": root / "roster.json",
        }
        settings = " ".join(f'{name}="{path}"' for name, path in paths.items())
        number = str(flwr(self._home, "run", str(root / "bundle"), LINK, "--run-config", settings)["run-id"])
        self._note(number, submission)
        return number

    def stop(self, number: str) -> None:
        """For good: it is not resumed. Raises NotFound, FederationError."""
        number = self._last(number)
        self._note(number, self.submission(number).model_copy(update={"over": True}))
        flwr(self._home, "stop", number, LINK)

    def submission(self, number: str) -> Submission:
        """Raises NotFound."""
        path = self._folder / f"{number}.json"
        if not number.isdigit() or not path.exists():
            known = ", ".join(sorted(file.stem for file in self._folder.glob("*.json"))) or "none"
            raise NotFound(f"there is no run {number}", remedy=f"Known: {known}.")
        return Submission.model_validate_json(path.read_bytes())

    def follow(self, number: str, say: Callable[[str], None]) -> None:
        """Tell what the driver writes until the run has ended. Raises NotFound, FederationError when it failed."""
        at, heard, alone, ended = 0, time.monotonic(), 0.0, False
        while True:
            submission = self.submission(number)
            if submission.followed_by:
                number, at, heard, ended = submission.followed_by, 0, time.monotonic(), False
                say(f"resumed as run {number}")
                continue
            content = self._log(number).read_bytes()[at:] if self._log(number).exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            at += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                heard = time.monotonic()
                if line != END:
                    say(line)
            if self._home.running:
                alone = 0.0
                ended = ended or whole.endswith(f"{END}\n".encode())
                if ended or submission.over or time.monotonic() - heard > QUIET_SECONDS:
                    heard = time.monotonic()
                    if self._finished(number):
                        return
            elif not alone:
                alone = time.monotonic()
                say("the coordinator is not running; the run goes on when it is started")
            elif time.monotonic() - alone > PATIENCE:
                raise FederationError("the coordinator is not running", remedy="Start it: the run goes on by itself.")
            time.sleep(POLL_SECONDS)

    def tend(self, stopped: threading.Event, say: Callable[[str], None]) -> None:
        """Submit again, until `stopped`, every run whose driver has ended without a word."""
        suspects: set[str] = set()
        while not stopped.wait(TEND_SECONDS):
            silent = set() if self._driven() else self._unfinished()
            for number in sorted(silent & suspects):
                try:
                    if self._log(number).exists() or self._never_began(number):
                        self._resume(number, say)
                except FederationError as error:  # the SuperLink is just starting again: at the next look
                    say(f"run {number} cannot be resumed yet: {error.cause}")
            suspects = silent  # twice in a row, because a driver may just be starting or ending

    def _never_began(self, number: str) -> bool:
        """Whether it ended before its driver wrote a word. Asked now and then: it may wait for another run."""
        if time.monotonic() - self._asked.get(number, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._asked[number] = time.monotonic()
        return self.state(number).startswith("finished")

    def _resume(self, number: str, say: Callable[[str], None]) -> None:
        old = self.submission(number)
        if not self.state(number).startswith("finished"):
            flwr(self._home, "stop", number, LINK)
        if self._full:
            self._note(number, old.model_copy(update={"over": True}))
            say(f"run {number} was cut off: no space is left on the disk. {_SPACE}")
            return
        if old.attempt >= ATTEMPTS:
            self._note(number, old.model_copy(update={"over": True}))
            say(f"run {number} was cut off {ATTEMPTS} times; it is not resumed again. See {self._log(number)}")
            return
        again = self._submit(old.model_copy(update={"attempt": old.attempt + 1}))
        self._note(number, old.model_copy(update={"followed_by": again}))
        say(f"run {number} was cut off; it goes on as run {again}")

    def state(self, number: str) -> str:
        """`pending`, `running`, `finished:completed`, `finished:failed`, `finished:stopped`; `finished:forgotten` when
        the SuperLink's state was made anew since. Raises FederationError."""
        try:
            return str(flwr(self._home, "list", LINK, "--run-id", number)["runs"][0]["status"])
        except FederationError as error:
            if "Run ID not found" in error.cause:
                return "finished:forgotten"
            raise

    def _finished(self, number: str) -> bool:
        """Whether it has come to a good end. Raises FederationError when to a bad one, unless it will be resumed."""
        try:
            state = self.state(number)
        except FederationError:
            if self._home.running:
                return False  # the SuperLink is being started again
            raise
        if state == "finished:completed" or (state == "finished:forgotten" and self._over(number)):
            return True
        if state.startswith("finished") and self._over(number):
            if self._full:
                raise StorageFull(f"run {number} ended: no space is left on the disk", remedy=_SPACE)
            raise FederationError(
                f"run {number} ended as {state.partition(':')[2]}",
                remedy="The same command goes on where it stopped. Its log: " + str(self._log(number)),
            )
        return False

    @property
    def _full(self) -> bool:
        place = self._home.workspace if self._home.workspace.exists() else self._home.root
        return shutil.disk_usage(place).free < LEAST_FREE

    def _unfinished(self) -> set[str]:
        every = {path.stem for path in self._folder.glob("*.json")}
        return {number for number in every if not self._over(number)}

    def _over(self, number: str) -> bool:
        """Whether it reached an end, was stopped by hand, or goes on as another run."""
        submission, log = self.submission(number), self._log(number)
        ended = log.exists() and log.read_bytes().endswith(f"{END}\n".encode())
        return ended or submission.over or submission.followed_by is not None

    def _driven(self) -> bool:
        """Whether a driver holds the workspace."""
        path = self._home.workspace / "lock"
        if not path.exists():
            return False
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _last(self, number: str) -> str:
        while following := self.submission(number).followed_by:
            number = following
        return number

    def _log(self, number: str) -> Path:
        return self._home.workspace / f"run-{number}.log"

    def _note(self, number: str, submission: Submission) -> None:
        write_atomically(self._folder / f"{number}.json", submission.model_dump_json().encode())
