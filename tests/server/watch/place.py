"""A federation with its watcher: real runs, over clients in this process, and a clock that is set by hand."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from clients.home import Home
from pipeline.engine.progress import BudgetAsked
from pipeline.language.config import Config
from pipeline.lifecycle import Part
from pipeline.reporting.report import Report
from pipeline.store.metadata import run_id
from pipeline.store.registry import Registry
from pipeline.store.traffic import share_of
from privacy.errors import SottovoceError
from server.evidence.outcomes import Outcomes
from server.watch.running import Command, Ended
from server.watch.state import Decision
from server.watch.watcher import HOUR, Watcher
from tests.server.evidence.test_outcomes import ONE
from tests.support import Federation

WRONG = 5.0
WATCH = {"rest_hours": 1, "outcomes": 100, "sources_hours": None, "ramp": {"shares": [0.2, 0.5], "subjects": 30}}


@dataclass
class Here(Command):
    """The same runs, in this process."""

    federation: Federation | None = None
    calls: int = 0

    def call(self, *more: str) -> Ended:
        assert self.federation
        federation, options = self.federation, dict(zip(more[::2], more[1::2], strict=True))
        self.calls += 1
        part = Part(run_id(options["--run"]) if "--run" in options else None, options.get("--until"))
        ended = Ended(0)
        try:
            with federation.workspace.locked():
                outcome = federation.work(part)
            if outcome:
                ended.report = Report.of(outcome, federation.workspace).model_dump(mode="json")
        except SottovoceError as error:
            ended = Ended(error.exit_code, error.cause, error.code)
        for event in federation.events:
            if isinstance(event, BudgetAsked):
                ended.sources[event.client] = event.source
                if event.cause:
                    ended.unable[event.client] = event.cause
        return ended


class Place:
    """A federation, its watcher, and a clock that is set by hand."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.config, self.now = config, 1e9
        self.federation = Federation(folder, config)
        self.space = self.federation.workspace
        self.registry = Registry(self.space.registry_url, self.space.models)
        self.outcomes = Outcomes(f"sqlite:///{folder}/feedback.db")
        self.decisions: list[Decision] = []
        self.begin()

    def begin(self) -> None:
        """A watcher as a new process would have it."""
        self.command = Here((), federation=self.federation)
        self.watcher = Watcher(
            self.config, self.space, self.command, self.outcomes, self.decisions.append, lambda: self.now
        )

    def look(self, hours: float = 0.0) -> list[tuple[str, str]]:
        """What is decided by one look, so much later."""
        self.now += hours * HOUR
        before = len(self.decisions)
        self.watcher.look()
        return [(one.what, one.why) for one in self.decisions[before:]]

    def hear(self, count: int, good: dict[int, float], seed: int = 1) -> None:
        """Outcomes of subjects whom the traffic divides; a version is off by less, the better it is."""
        source, traffic = np.random.default_rng(seed), self.registry.traffic("stay")
        champion = self.registry.champion("stay")
        assert champion
        shares = {champion.version if arm == "champion" else int(arm): share for arm, share in traffic.shares.items()}
        found = []
        for number in range(count):
            version, target = share_of(shares, traffic.salt, f"{seed} {number}"), float(source.random() < 0.5)
            off = abs(source.normal(0, good[version])) if good[version] < WRONG else 1 - source.random() / 10
            told = min(max(abs(target - off), 0.0), 1.0)
            drawn = len(shares) > 1
            experiment = self.watcher.state.ramp.experiment if drawn and self.watcher.state.ramp else ""
            found.append(
                replace(
                    ONE,
                    id=f"{seed:04d}{number:020x}",
                    unit=f"{seed:04d}{number:012x}",
                    version=version,
                    experiment=experiment,
                    shares=shares if drawn else {},
                    told={version: [told]},
                    penalties={version: (told - target) ** 2},
                    target=target,
                    asked=self.now,
                    received=self.now,
                )
            )
        self.outcomes.take(found)

    @property
    def charged(self) -> int:
        return sum(len(Home(home).ledger.rows()) for home in self.federation.homes.values())


def decay(place: Place) -> None:
    """The champion says the opposite of what comes."""
    place.hear(120, {1: WRONG})


def renew(place: Place) -> None:
    """New rows at a client, so that a run makes another model."""
    path = Path(Home(place.federation.homes["east"]).policy.source.files[0])
    pd.read_parquet(path).iloc[:-5].to_parquet(path)
