"""One look after the other: does anything ask for a run, do the clients' budgets pay for it, has a challenger earned
its place? Each decision is written down with its reason; a watcher that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.language.config import Config
from pipeline.store.registry import Registered, Registry
from pipeline.store.traffic import CHAMPION, Traffic
from pipeline.store.workspace import Workspace
from privacy.errors import SottovoceError
from server.evidence.drift import drifts, reference_of
from server.evidence.experiments import Comparison, comparisons
from server.evidence.outcomes import Outcomes
from server.evidence.quality import decayed, qualities, task_of
from server.evidence.told import told
from server.serving.lineup import boards
from server.serving.moving import crown, move
from server.serving.status import Status
from server.watch.ramp import Health, Move, Ramp, health, next_move
from server.watch.running import INTERRUPTED, WORKSPACE_BUSY, Command, Ended
from server.watch.state import Book, Decision, State, What

FIRST_PAUSE = 60.0
LONGEST_PAUSE = 86400.0
"""Seconds between two tries after failures: twice as many after each."""
HOUR = 3600.0


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

    def __post_init__(self) -> None:
        self.book = Book(self.space.root)
        self.state = self.book.read()
        if not self.state.failures:  # whoever starts it anew wants budgets asked anew
            self.state = self.state.model_copy(update={"again": 0.0})
        self.registry = Registry(self.space.registry_url, self.space.models)

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
        """One look, and at most one thing done. What goes wrong is a decision to try again later."""
        rests = self.clock() < self.state.again
        try:
            if self.state.ramp:
                self._earn(self.state.ramp)
            elif ((challenger := self.registry.challenger(self.config.name)) and self._begin(challenger)) or rests:
                pass
            elif self.state.pending:
                self._run(self.state.because)
            elif why := self._wanted():
                self._ask(why)
        except (SottovoceError, OSError) as error:
            self._failed(error.cause if isinstance(error, SottovoceError) else str(error.strerror))

    # -- when to run ------------------------------------------------------------------------------------------------
    def _wanted(self) -> str:
        """Why a run is wanted; empty: it is not."""
        watch, now, state = self.config.watch, self.clock(), self.state
        champion = self.registry.champion(self.config.name)
        if champion is None and not state.ran:
            return "no version is champion yet"
        if now - state.ran < watch.rest_hours * HOUR:
            return ""
        if watch.every_hours and now - state.ran >= watch.every_hours * HOUR:
            return f"the last run was {(now - state.ran) / HOUR:.1f} hours ago"
        if champion and watch.decay is not None and (why := self._decay(champion, watch.decay)):
            return why
        if champion and watch.drift is not None and (why := self._drift(champion, watch.drift)):
            return why
        if watch.sources_hours and now - state.asked >= watch.sources_hours * HOUR:
            return self._new_sources()
        return ""

    def _decay(self, champion: Registered, margin: float) -> str:
        found = self.outcomes.latest(self.config.name, champion.version, self.config.watch.outcomes)
        if len(found) < self.config.watch.outcomes:
            return ""
        task = task_of(champion)
        return decayed(task, champion, qualities(task, found)[champion.version], margin)

    def _drift(self, champion: Registered, most: float) -> str:
        if (reference := reference_of(champion)) is None:
            return ""
        lately = [one for board in boards(self.space.scratch).values() for one in board.inputs(champion.version)]
        found = [one for one in drifts(reference, lately) if one.rows >= self.config.watch.rows and one.moved(most)]
        return "; ".join(one.words for one in found[:3])

    def _new_sources(self) -> str:
        ended = self.command.call("--until", "budget")
        if not ended.sources:
            self._after(ended)
            return ""
        self._keep(asked=self.clock())
        known = self.state.sources
        changed = [name for name, digest in sorted(ended.sources.items()) if known.get(name) != digest]
        if not known or not changed:
            if not known:
                self._keep(sources=ended.sources)
            return ""
        return f"the data of {', '.join(changed)} changed"

    # -- whether it can be paid for, and the run --------------------------------------------------------------------
    def _ask(self, why: str) -> None:
        ended = self.command.call("--until", "budget")
        wanted = hashlib.sha256(f"{self._digest} {sorted(ended.sources.items())}".encode()).hexdigest()[:16]
        if ended.error_code == "budget-exhausted":
            if wanted != self.state.refused:
                self._decide("refused", f"{why}; {ended.error}")
            self._keep(refused=wanted, again=self.clock() + self.config.watch.budget_hours * HOUR)
        elif ended.code:
            self._after(ended)
        else:
            number = self.state.runs + 1
            name = f"watch-{self.config.name}-{number}-{secrets.token_hex(3)}"
            self._keep(pending=name, because=why, runs=number, sources=ended.sources, asked=self.clock(), refused="")
            self._run(why)

    def _run(self, why: str) -> None:
        name = self.state.pending
        ended = self.command.call("--run", name)
        if ended.code:
            self._after(ended)
            return
        self._keep(pending="", because="", ran=self.clock(), failures=0, again=0.0, told="")
        report = ended.report
        version = report.get("version")
        state = (
            "is champion" if report.get("promoted") else "is challenger" if report.get("challenger") else "stays out"
        )
        reasons = "; ".join(report.get("reasons", ()))
        self._decide("ran", f"{why}: v{version} {state}{f' ({reasons})' if reasons else ''}", name, version)

    def _after(self, ended: Ended) -> None:
        """A command that did not do what it was to."""
        if ended.code == INTERRUPTED:
            return
        if ended.code == WORKSPACE_BUSY:
            self._wait("another run is under way")
        elif ended.error_code == "config":
            self._keep(pending="", because="")  # the configuration is another one now: a new name, a new run
            self._failed(ended.error)
        else:
            self._failed(ended.error)

    def _failed(self, why: str) -> None:
        failures = self.state.failures + 1
        pause = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
        self._keep(failures=failures, again=self.clock() + pause, told="")
        self._decide("failed", f"{why}; tried again in {pause:.0f} s", self.state.pending)

    # -- how a version earns its place ------------------------------------------------------------------------------
    def _begin(self, challenger: Registered) -> bool:
        """Give a challenger its first share. False: traffic was divided by hand, and is not touched."""
        name, champion = self.config.name, self.registry.champion(self.config.name)
        if champion is None or champion.version == challenger.version:
            self.registry.challenge(name, None)
            return False
        now = self.registry.traffic(name)
        if now.model_copy(update={"salt": ""}) != Traffic(live=now.live):
            self._wait(f"v{challenger.version} is challenger, but traffic was divided by hand: end that, and it begins")
            return True
        salt = secrets.token_hex(16)
        ramp = Ramp(
            challenger=challenger.version,
            champion=champion.version,
            experiment=hashlib.sha256(salt.encode()).hexdigest()[:8],
            salt=salt,
            began=self.clock(),
        )
        self._keep(ramp=ramp)
        self._give(ramp)
        self._decide("began", f"{self.config.watch.ramp.shares[0]:.0%} of the subjects", version=challenger.version)
        return True

    def _earn(self, ramp: Ramp) -> None:
        champion = self.registry.champion(self.config.name)
        if champion is None or champion.version != ramp.champion:
            self._drop(ramp, Move("drop", "the champion it was held against is champion no more"), None)
            return
        comparison = self._comparison(ramp)
        done = next_move(
            ramp,
            self.config.watch.ramp,
            comparison,
            self._health(ramp.challenger),
            self._health(ramp.champion),
            self.clock(),
        )
        if done.what == "wait":
            self._give(ramp)  # also where a write was lost
            self._keep(told=done.why)
        elif done.what == "grow":
            grown = ramp.model_copy(update={"step": ramp.step + 1})
            self._keep(ramp=grown)
            self._give(grown)
            self._decide("grew", done.why, version=ramp.challenger)
        elif done.what == "promote":
            self._promote(ramp, done, comparison)
        else:
            self._drop(ramp, done, comparison)

    def _promote(self, ramp: Ramp, done: Move, comparison: Comparison | None) -> None:
        name = self.config.name
        self.registry.note(name, ramp.challenger, {"earned": done.why, **_evidence(comparison)})
        crown(self.space, name, ramp.challenger, _silent)
        self.registry.challenge(name, None)
        self._keep(ramp=None, told="")
        self._decide("promoted", done.why, version=ramp.challenger)

    def _drop(self, ramp: Ramp, done: Move, comparison: Comparison | None) -> None:
        name = self.config.name
        move(self.space, name, lambda now: {"shares": {CHAMPION: 1.0}}, _silent)
        self.registry.note(name, ramp.challenger, {"dropped": done.why, **_evidence(comparison)})
        self.registry.challenge(name, None)
        self._keep(ramp=None, told="")
        self._decide("dropped", done.why, version=ramp.challenger)

    def _give(self, ramp: Ramp) -> None:
        """The traffic as the ramp has it; nothing is written where it is so already."""
        share = self.config.watch.ramp.shares[min(ramp.step, len(self.config.watch.ramp.shares) - 1)]
        shares = {CHAMPION: 1 - share, str(ramp.challenger): share}
        now = self.registry.traffic(self.config.name)
        if (now.shares, now.salt) != (shares, ramp.salt):
            move(self.space, self.config.name, lambda _: {"shares": shares, "salt": ramp.salt}, _silent)

    def _comparison(self, ramp: Ramp) -> Comparison | None:
        found = comparisons(self.outcomes.of(self.config.name, since=ramp.began - 1))
        wanted = (ramp.experiment, ramp.champion, ramp.challenger)
        return next((one for one in found if (one.name, one.champion, one.challenger) == wanted), None)

    def _health(self, version: int) -> Health:
        samples: list[list[object]] = []
        refused = ""
        for board in boards(self.space.scratch).values():
            status = Status.read(board.folder)
            if status and status.name == self.config.name:
                refused = refused or status.refused.get(version, "")
                samples += [sample for replica in board.samples(but="") for sample in _triples(replica)]
        return health(samples, version, refused)

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
            self.state = State.model_validate({**self.state.model_dump(), **changes})
            self.book.write(self.state)


def _evidence(comparison: Comparison | None) -> dict[str, str]:
    return {"evidence": json.dumps(told(comparison))} if comparison else {}


def _triples(replica: list[object]) -> list[list[object]]:
    return [sample for sample in replica if isinstance(sample, list) and len(sample) == 3]


def _silent(text: str) -> None:
    """Decisions are told, not each endpoint's word."""
