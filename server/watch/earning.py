"""A challenger's ramp carried out: traffic given, health and outcomes looked at, the version promoted or dropped."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.language.settings.watch import RampConfig
from pipeline.store.registry import Registered, Registry
from pipeline.store.traffic import CHAMPION, Traffic
from pipeline.store.workspace import Workspace
from server.evidence.experiments import Comparison, comparisons
from server.evidence.outcomes import Outcome, Outcomes
from server.evidence.told import told
from server.serving.traffic.lineup import boards
from server.serving.traffic.moving import crown, move
from server.serving.traffic.status import Status
from server.watch.ramp import Health, Move, Ramp, health, next_move

HOUR = 3600.0
DAY = 86400.0


@dataclass
class Earning:
    """Of one model. keep: writes a ramp down, or that there is none."""

    name: str
    space: Workspace
    registry: Registry
    outcomes: Outcomes
    config: RampConfig
    keep: Callable[[Ramp | None], None]

    def begin(self, challenger: Registered, champion: Registered, now: float) -> Move | None:
        """Give a challenger its first share. None: traffic was divided by hand, and is not touched."""
        traffic = self.registry.traffic(self.name)
        if traffic.model_copy(update={"salt": ""}) != Traffic(live=traffic.live):
            return None
        salt = secrets.token_hex(16)
        ramp = Ramp(
            challenger=challenger.version,
            champion=champion.version,
            experiment=hashlib.sha256(salt.encode()).hexdigest()[:8],
            salt=salt,
            began=now,
            seen=now,
            before=self._health(challenger.version),
            champion_before=self._health(champion.version),
        )
        self.keep(ramp)
        self._give(ramp)
        self.keep(ramp.model_copy(update={"given": True}))
        return Move("begin", f"{self.config.shares[0]:.0%} of the subjects")

    def look(self, ramp: Ramp, champion: Registered | None, now: float) -> Move:
        """What was done, or why nothing was."""
        if champion is None:
            return Move("wait", "there is no champion to be held against: traffic stays as it is")
        if champion.version == ramp.challenger:
            return self._promote(ramp, Move("promote", ramp.promoted or "it was made champion by hand"), None)
        if champion.version != ramp.champion:
            return self._leave(ramp, "another version was made champion by hand")
        if ramp.given and not self._has(ramp):
            return self._leave(ramp, "traffic was moved by hand")
        self._give(ramp)  # also where it was cut off in between
        serves = self._serves
        if serves:
            ramp = ramp.model_copy(update={"served": ramp.served + max(0.0, min(now - ramp.seen, HOUR))})
        ramp = ramp.model_copy(update={"seen": now, "given": True})
        self.keep(ramp)
        comparison = self._comparison(ramp, now)
        done = next_move(
            ramp,
            self.config,
            comparison,
            self._health(ramp.challenger).since(ramp.before),
            self._health(ramp.champion).since(ramp.champion_before),
        )
        if done.what == "grow":
            grown = ramp.model_copy(update={"step": ramp.step + 1, "given": False})
            self.keep(grown)
            self._give(grown)
            self.keep(grown.model_copy(update={"given": True}))
        elif done.what == "promote":
            return self._promote(ramp, done, comparison)
        elif done.what == "drop":
            self._drop(ramp, done, comparison)
        elif not serves:
            return Move("wait", "nothing serves it now")
        return done

    def _promote(self, ramp: Ramp, done: Move, comparison: Comparison | None) -> Move:
        """In steps that can be repeated: cut off between any of them, the next look ends it."""
        if comparison:
            self.registry.note(self.name, ramp.challenger, {"earned": done.why, **_evidence(comparison)})
            self.keep(ramp.model_copy(update={"promoted": done.why}))
        if comparison or ramp.promoted:
            crown(self.space, self.name, ramp.challenger, _silent)
        self._clear(ramp)
        self.keep(None)
        return done

    def _drop(self, ramp: Ramp, done: Move, comparison: Comparison | None) -> None:
        self.registry.note(self.name, ramp.challenger, {"dropped": done.why, **_evidence(comparison)})
        move(self.space, self.name, lambda now: {"shares": {CHAMPION: 1.0}}, _silent)
        self._clear(ramp)
        self.keep(None)

    def _leave(self, ramp: Ramp, why: str) -> Move:
        """A person has decided: nothing is moved, and the version is challenger no more."""
        self._clear(ramp)
        self.keep(None)
        return Move("leave", why)

    def _clear(self, ramp: Ramp) -> None:
        """Unless another version is challenger by now."""
        found = self.registry.challenger(self.name)
        if found and found.version == ramp.challenger:
            self.registry.challenge(self.name, None)

    def _wanted(self, ramp: Ramp) -> dict[str, float]:
        share = self.config.shares[min(ramp.step, len(self.config.shares) - 1)]
        return {CHAMPION: 1 - share, str(ramp.challenger): share}

    def _has(self, ramp: Ramp) -> bool:
        now = self.registry.traffic(self.name)
        return (now.shares, now.salt) == (self._wanted(ramp), ramp.salt)

    def _give(self, ramp: Ramp) -> None:
        """The traffic as the ramp has it; nothing is written where it is so already."""
        if not self._has(ramp):
            move(self.space, self.name, lambda _: {"shares": self._wanted(ramp), "salt": ramp.salt}, _silent)

    def _comparison(self, ramp: Ramp, now: float) -> Comparison | None:
        """A prediction counts when it is so old that its outcome would be known, whatever it is: else outcomes that are
        known sooner when they are bad would stand for all."""
        settle = self.config.settle_hours * HOUR
        found = [one for one in self.outcomes.of(self.name, since=ramp.began - DAY) if one.asked <= now - settle]
        wanted = (ramp.experiment, ramp.champion, ramp.challenger)
        every = comparisons(_in_turn(found, settle))
        return next((one for one in every if (one.name, one.champion, one.challenger) == wanted), None)

    @property
    def _boards(self) -> list[tuple[Status, list[list[object]]]]:
        """Of every endpoint that serves the model: its status, and what its replicas measured."""
        found = []
        for board in boards(self.space.scratch).values():
            status = Status.read(board.folder)
            if status and status.name == self.name:
                found.append((status, [one for replica in board.samples(but="") for one in _triples(replica)]))
        return found

    @property
    def _serves(self) -> bool:
        return bool(self._boards)

    def _health(self, version: int) -> Health:
        every = self._boards
        refused = next((why for status, _ in every if (why := status.refused.get(version, ""))), "")
        found = health([sample for _, samples in every for sample in samples], version)
        return found.model_copy(update={"refused": refused})


def _in_turn(found: Sequence[Outcome], settle: float) -> list[Outcome]:
    """In the order in which they began to count."""
    return sorted(found, key=lambda one: (max(one.received, one.asked + settle), one.number))


def _evidence(comparison: Comparison | None) -> dict[str, str]:
    return {"evidence": json.dumps(told(comparison))} if comparison else {}


def _triples(replica: list[object]) -> list[list[object]]:
    return [sample for sample in replica if isinstance(sample, list) and len(sample) == 3]


def _silent(text: str) -> None:
    """Decisions are told, not each endpoint's word."""
