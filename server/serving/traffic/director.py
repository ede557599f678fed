"""Who decides which versions answer: follows the registry and publishes lineups, one at a time.

A change comes in two steps. First the replicas are told to hold what is new beside what answers; when all of them do,
the traffic moves, for all in one moment. A version that one of them refuses gets none: what worked goes on working.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.store.registry import Registered, Registry
from pipeline.store.traffic import CHAMPION, Traffic
from privacy.errors import NotFound, SottovoceError, VersionRefused
from server.serving.traffic.lineup import Board, Held, Lineup
from server.serving.traffic.status import Status

logger = logging.getLogger(__name__)

LOADING = 60.0
"""Seconds that the replicas have for loading a version."""
GLANCE = 0.02
LONGEST_PAUSE = 30.0
"""Seconds after which a version that was refused is tried again, at most."""


@dataclass
class Director:
    """Of one endpoint. `tell` hears what an operator should know."""

    registry: Registry
    name: str
    board: Board
    poll_seconds: float
    tell: Callable[[str], None] = lambda text: None
    _number: int = 0
    _now: Lineup = field(default_factory=lambda: Lineup(number=0, name=""))
    _target: Lineup | None = None
    _seen: tuple[tuple[int, int, int] | None, Lineup] | None = None
    _opened: int = 0
    _file: int | None = None
    _told: str = ""
    _again: float = 0.0
    _behind: bool = False
    _pause: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """Publish what the registry says at this moment: the replicas start with it."""
        self._target = self._safely(self._wanted)
        self._publish(self._target)

    def start(self) -> None:
        """See that the replicas have what they were told to, and follow the registry from then on."""
        self._settle()
        self._thread = threading.Thread(target=self._follow, name="director", daemon=True)
        self._thread.start()

    @property
    def champion(self) -> int | None:
        """The version that answers where nothing else is said."""
        return self._now.champion

    def stop(self, seconds: float = 10.0) -> None:
        """Let the replicas answer what they were asked, and no more."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._publish(self._now.model_copy(update={"stopping": True}))
        deadline = time.monotonic() + seconds
        while not all(report.stopped for report in self.board.reports().values()) and time.monotonic() < deadline:
            time.sleep(GLANCE)

    def _follow(self) -> None:
        while not self._stop.wait(self.poll_seconds):
            try:
                self._settle()
            except OSError as error:  # a disk that is full, for one: what answers goes on
                self._target, self._told = None, ""
                self.tell(f"nothing can be changed now: {error.strerror}")

    def _settle(self) -> None:
        """One look at the registry, and what follows from it."""
        wanted = self._safely(self._wanted)
        # Where something stands in, the version that was refused may have been mended before anybody looked again.
        again = (self._behind or bool(self._refused())) and time.monotonic() >= self._again
        if wanted != self._target or again:
            self._change(wanted)
        self._say(Status.of(self._now, self.board.reports()))

    def _change(self, wanted: Lineup) -> None:
        self._target = wanted
        kept = {held.version: held for held in self._now.held} | {held.version: held for held in wanted.held}
        self._publish(self._now.model_copy(update={"held": tuple(kept.values())}))
        refused = self._loaded()
        broken = {version: refused[version] for version in wanted.shares if version in refused}
        self._pause = min(max(2 * self._pause, self.poll_seconds), LONGEST_PAUSE) if refused else 0.0
        self._again = time.monotonic() + self._pause
        self._behind = bool(broken)
        if broken:
            self._fall_back(wanted, broken)
        else:
            self._publish(wanted)

    def _fall_back(self, wanted: Lineup, broken: dict[int, str]) -> None:
        """Go on with what answers; with nothing that does, with the newest blessed version that loads."""
        problem = "; ".join(f"version {version} refused: {why}" for version, why in broken.items())
        left = {version: share for version, share in self._now.shares.items() if version not in broken}
        answering = {version: share / sum(left.values()) for version, share in left.items() if sum(left.values())}
        if not answering:
            for older in self._blessed(set(broken)):
                self._publish(self._now.model_copy(update={"held": (*wanted.held, Held.of(older))}))
                if older.version not in self._loaded():
                    answering = {older.version: 1.0}
                    break
        held = {one.version: one for one in self._now.held if one.version in answering}
        held |= {one.version: one for one in wanted.held}
        champion = self._now.champion if self._now.champion in answering else next(iter(answering), None)
        self._publish(
            self._now.model_copy(
                update={
                    "held": tuple(held.values()),
                    "shares": answering,
                    "champion": champion,
                    "problem": problem,
                }
            )
        )

    def _blessed(self, but: set[int]) -> list[Registered]:
        try:
            found = self._registry().versions(self.name)
        except Exception:
            return []
        return [one for one in found if one.blessed and not one.retired and one.version not in but]

    def _loaded(self) -> dict[int, str]:
        """Wait until every replica has done what the lineup asks for; what any of them refused, and why."""
        deadline = time.monotonic() + LOADING
        while time.monotonic() < deadline and not self._stop.is_set():
            reports = self.board.reports().values()
            if all(report.number >= self._number for report in reports):
                return self._refused()
            time.sleep(GLANCE)
        slow = [report for report in self.board.reports().values() if report.number < self._number]
        late = {held.version for held in self._now.held for report in slow if held.version not in report.loaded}
        return dict.fromkeys(late, f"not loaded within {LOADING:g} s") | self._refused()

    def _refused(self) -> dict[int, str]:
        held = {one.version for one in self._now.held}
        found: dict[int, str] = {}
        for report in self.board.reports().values():
            found |= {version: why for version, why in report.refused.items() if version in held}
        return found

    def _publish(self, lineup: Lineup) -> None:
        self._number += 1
        self._now = lineup.model_copy(update={"number": self._number})
        self.board.publish(self._now)

    def _safely(self, look: Callable[[], Lineup]) -> Lineup:
        """A registry that is away changes nothing of what answers; it is said."""
        try:
            return look()
        except FileNotFoundError:
            return self._troubled("the registry is away")
        except SottovoceError as error:
            return self._troubled(error.cause)
        except Exception as error:
            return self._troubled(f"the registry cannot be read: {type(error).__name__}")

    def _troubled(self, problem: str) -> Lineup:
        self._seen = None
        return self._now.model_copy(update={"name": self.name, "problem": problem})

    def _registry(self) -> Registry:
        return self.registry.reopened(self._opened)

    def _wanted(self) -> Lineup:
        """What the registry says now. Asked only where its file has changed."""
        stamp = self.registry.stamp
        seen = self._seen
        if seen and stamp and seen[0] and stamp == seen[0]:
            return seen[1]
        if stamp and self._file not in (None, stamp[0]):
            self._opened += 1  # another file has taken its place
        self._file = stamp[0] if stamp else None
        found = asked(self._registry(), self.name)
        self._seen = (stamp, found)
        return found

    def _say(self, status: Status) -> None:
        status.write(self.board.folder)
        if (told := status.words) != self._told:
            self._told = told
            self.tell(told)


def asked(registry: Registry, name: str) -> Lineup:
    """What a registry says now. Raises NotFound for a version that is none."""
    problem = ""
    try:
        traffic = registry.traffic(name)
    except (NotFound, VersionRefused) as error:
        traffic, problem = Traffic(), error.cause if isinstance(error, VersionRefused) else ""
    champion = registry.champion(name)
    numbers = {CHAMPION: champion.version if champion else None}
    named = {CHAMPION: champion}
    for version in traffic.versions:
        if version != CHAMPION:
            named[version] = registry.version(name, int(version))
            numbers[version] = int(version)
    shares: dict[int, float] = {}
    for version, share in traffic.shares.items():
        if (number := numbers[version]) is not None:
            shares[number] = shares.get(number, 0.0) + share
    total = sum(shares.values())
    held = {one.version: Held.of(one) for one in named.values() if one}
    return Lineup(
        number=0,
        name=name,
        held=tuple(held[number] for number in sorted(held)),
        shares={number: share / total for number, share in shares.items()} if total else {},
        shadow=tuple(number for version in traffic.shadow if (number := numbers[version]) is not None),
        champion=numbers[CHAMPION],
        salt=traffic.salt,
        problem=problem,
    )


def directed(folder: Path) -> Board:
    """A board in a folder of its own. Raises OSError."""
    for old in folder.parent.glob("serving-*"):  # of processes that were killed
        if not Path(f"/proc/{old.name.removeprefix('serving-')}").exists():
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return Board(folder)
