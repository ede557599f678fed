"""One look after the other: does anything ask for a run, do the clients' budgets pay for it, has a challenger earned
its place? Each decision is written down with its reason; a watcher that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.language.config import Config
from pipeline.store.registry import Registered, Registry
from pipeline.store.workspace import Workspace
from privacy.errors import StorageError, named
from server.evidence.drift import drifts, reference_of
from server.evidence.outcomes import Outcomes
from server.evidence.quality import decayed, qualities, task_of
from server.serving.traffic.lineup import boards
from server.serving.traffic.status import Status
from server.watch.earning import HOUR, Earning
from server.watch.ramp import Ramp
from server.watch.running import INTERRUPTED, WORKSPACE_BUSY, Command, Ended
from server.watch.state import Book, Decision, What

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 86400.0
"""Seconds between two tries after failures: twice as many after each."""
DONE: dict[str, What] = {
    "begin": "began",
    "grow": "grew",
    "promote": "promoted",
    "drop": "dropped",
    "leave": "left",
}
"""A move of the ramp, as a decision."""


@dataclass
class Watcher:
    """Of one model. The caller holds the lock of the watch. tell: hears each decision."""

    config: Config
    space: Workspace
    command: Command
    outcomes: Outcomes
    tell: Callable[[Decision], None] = lambda decision: None
    clock: Callable[[], float] = time.time
    _stopped: threading.Event = field(default_factory=threading.Event)
    _file: int | None = None
    _opened: int = 0

    def __post_init__(self) -> None:
        self.book = Book(self.space.root, self.config.name)
        self.state = self.book.read()

    def watch(self) -> None:
        """Until `stop`."""
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(self.config.watch.look_seconds)

    def stop(self) -> None:
        """A run that is under way is ended as by Ctrl-C; the next watcher goes on with it."""
        self._stopped.set()
        self.command.stop()

    def look(self) -> None:
        """One look, and at most one thing done. Whatever goes wrong is a decision to try again later."""
        now = self.clock()
        if now < min(self.state.again, now + LONGEST_PAUSE):
            return
        failures = self.state.failures
        try:
            self._look(now)
        except Exception as error:
            found = named(error)
            self._failed(found.cause if found else f"{type(error).__name__} in the registry or the database")
        else:
            if failures and self.state.failures == failures:
                self._keep(failures=0)

    def _look(self, now: float) -> None:
        registry, name = self._registry(), self.config.name
        champion = registry.champion(name) if registry else None
        if champion and not self.state.began:
            self._keep(began=now)
        if self.state.ramp and registry:
            self._earn(registry, self.state.ramp, champion)
        elif registry and (challenger := registry.challenger(name)) and self._begin(registry, challenger, champion):
            pass
        elif self.state.pending:
            self._run(self.state.because)
        elif why := self._wanted(champion, now):
            self._ask(why, champion)

    def _registry(self) -> Registry | None:
        """Of the file that is there now; None: nothing was ever registered. Raises StorageError when it is away."""
        registry = Registry(self.space.registry_url, self.space.models)
        try:
            stamp = registry.stamp
        except FileNotFoundError:
            if self.state.began:
                raise StorageError("the registry is away") from None
            return None
        if stamp and self._file not in (None, stamp[0]):
            self._opened += 1  # another file has taken its place
        self._file = stamp[0] if stamp else None
        return registry.reopened(self._opened)

    # -- when to run ------------------------------------------------------------------------------------------------
    def _wanted(self, champion: Registered | None, now: float) -> str:
        """Why a run is wanted; empty: it is not. What the champion's last run did not mend is no reason again."""
        watch, state = self.config.watch, self.state
        if state.unpaid == self._digest and now < min(state.unpaid_until, now + watch.budget_hours * HOUR):
            return ""
        if champion is None:
            return "" if state.ran else "no version is champion yet"
        last = max(state.ran, state.began)
        if state.ran and now - state.ran < watch.rest_hours * HOUR:
            return ""
        if watch.every_hours and now - last >= watch.every_hours * HOUR:
            return f"the last run was {(now - last) / HOUR:.1f} hours ago"
        if state.answered != champion.version:
            if watch.decay is not None and (why := self._decay(champion, watch.decay)):
                return why
            if watch.drift is not None and (why := self._drift(champion, watch.drift)):
                return why
        if watch.sources_hours and now - state.asked >= watch.sources_hours * HOUR:
            return self._new_sources()
        return ""

    def _decay(self, champion: Registered, margin: float) -> str:
        found = self.outcomes.latest(self.config.name, champion.version, self.config.watch.outcomes)
        if len(found) < self.config.watch.outcomes:
            return ""
        quality = qualities({champion.version: task_of(champion)}, found)[champion.version]
        return decayed(task_of(champion), champion, quality, margin)

    def _drift(self, champion: Registered, most: float) -> str:
        if (reference := reference_of(champion)) is None:
            return ""
        lately = [
            one
            for board in boards(self.space.scratch).values()
            if (status := Status.read(board.folder)) and status.name == self.config.name
            for one in board.inputs(champion.version)
        ]
        found = [one for one in drifts(reference, lately) if one.rows >= self.config.watch.rows and one.moved(most)]
        return "; ".join(one.words for one in found[:3])

    def _new_sources(self) -> str:
        ended, known = self.command.call("--until", "budget"), self.state.sources
        if not ended.sources:
            self._after(ended)
            return ""
        changed = [name for name, digest in sorted(ended.sources.items()) if known.get(name) != digest]
        self._keep(asked=self.clock(), sources=known or ended.sources)
        return f"the data of {', '.join(changed)} changed" if known and changed else ""

    # -- whether it can be paid for, and the run --------------------------------------------------------------------
    def _ask(self, why: str, champion: Registered | None) -> None:
        ended = self.command.call("--until", "budget")
        if ended.error_code == "budget-exhausted":
            self._unpaid(why, ended)
        elif ended.code:
            self._after(ended)
        else:
            number = self.state.runs + 1
            self._keep(
                pending=f"watch-{self.config.name}-{number}-{secrets.token_hex(3)}",
                because=why,
                runs=number,
                sources={**self.state.sources, **ended.sources},
                asked=self.clock(),
                answered=champion.version if champion else 0,
                unpaid="",
            )
            self._run(why)

    def _unpaid(self, why: str, ended: Ended) -> None:
        if self.state.unpaid != self._digest:
            self._decide("refused", f"{why}; {ended.error}")
        until = self.clock() + self.config.watch.budget_hours * HOUR
        self._keep(pending="", because="", unpaid=self._digest, unpaid_until=until)

    def _run(self, why: str) -> None:
        name = self.state.pending
        ended = self.command.call("--run", name)
        if ended.error_code == "budget-exhausted":
            self._unpaid(why, ended)
            return
        if ended.code:
            self._after(ended)
            return
        self._keep(pending="", because="", ran=self.clock(), began=self.state.began or self.clock(), told="")
        report = ended.report
        state = "stays out"
        if report.get("promoted") or report.get("challenger"):
            state = "is champion" if report["promoted"] else "is challenger"
        reasons = "; ".join(report.get("reasons", ()))
        version = report.get("version")
        self._decide("ran", f"{why}: v{version} {state}{f' ({reasons})' if reasons else ''}", name, version)

    def _after(self, ended: Ended) -> None:
        """A command that did not do what it was to. A run that failed is not gone on with under its name: the world may
        be another one; what it finished is found again by what went in."""
        if ended.code == INTERRUPTED and self._stopped.is_set():
            return
        if ended.code == WORKSPACE_BUSY:
            self._wait("another run is under way")
        else:
            self._keep(pending="", because="")
            self._failed("the run was stopped by hand" if ended.code == INTERRUPTED else ended.error)

    def _failed(self, why: str) -> None:
        failures = min(self.state.failures + 1, 12)
        pause = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
        try:
            self._keep(failures=failures, again=self.clock() + pause, told="")
            self._decide("failed", f"{why}; tried again in {pause:.0f} s", self.state.pending)
        except OSError as error:  # not even that can be written down: it holds for this process
            self.state = self.state.model_copy(update={"failures": failures, "again": self.clock() + pause})
            self.tell(
                Decision(time=self.clock(), what="failed", why=f"{why}; nothing can be written: {error.strerror}")
            )

    # -- how a version earns its place ------------------------------------------------------------------------------
    def _earning(self, registry: Registry) -> Earning:
        ramp = self.config.watch.ramp
        return Earning(self.config.name, self.space, registry, self.outcomes, ramp, lambda now: self._keep(ramp=now))

    def _begin(self, registry: Registry, challenger: Registered, champion: Registered | None) -> bool:
        """Whether there is nothing else to do for now."""
        if champion is None or champion.version == challenger.version:
            registry.challenge(self.config.name, None)
            return False
        done = self._earning(registry).begin(challenger, champion, self.clock())
        if done is None:
            self._wait(f"v{challenger.version} is challenger, but traffic was divided by hand: end that, and it begins")
            return False
        self._decide("began", done.why, version=challenger.version)
        return True

    def _earn(self, registry: Registry, ramp: Ramp, champion: Registered | None) -> None:
        done = self._earning(registry).look(ramp, champion, self.clock())
        self._keep(told=done.why if done.what == "wait" else "")
        if done.what != "wait":
            self._decide(DONE[done.what], done.why, version=ramp.challenger)

    # -- what is remembered -----------------------------------------------------------------------------------------
    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()[:16]

    def _wait(self, why: str) -> None:
        """Said once, however often it is so."""
        if why != self.state.told:
            self._keep(told=why)
            self._decide("waits", why)

    def _decide(self, what: What, why: str, run: str = "", version: int | None = None) -> None:
        decision = Decision(time=self.clock(), what=what, why=why, run=run, version=version)
        self.book.note(decision)
        self.tell(decision)

    def _keep(self, **changes: object) -> None:
        if any(getattr(self.state, name) != value for name, value in changes.items()):
            self.state = self.state.model_copy(update=changes)
            self.book.write(self.state)
