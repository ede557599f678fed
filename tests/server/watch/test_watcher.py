"""When the pipeline runs by itself, and how a version earns its place: real runs, over clients in this process."""

import os
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.home import Home
from pipeline.engine.progress import BudgetAsked
from pipeline.language.config import Config
from pipeline.lifecycle import Part
from pipeline.reporting.report import Report
from pipeline.store.metadata import run_id
from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic, share_of
from privacy.errors import ServingError, SottovoceError, StorageError
from server.evidence.outcomes import Outcomes
from server.serving.gateway.intake import SAMPLED, Intake
from server.serving.traffic.director import directed
from server.serving.traffic.lineup import Lineup
from server.serving.traffic.lineup import Report as Replied
from server.serving.traffic.moving import crown
from server.serving.traffic.status import Status
from server.serving.version import ServedModel
from server.watch.running import Command, Ended
from server.watch.state import Decision
from server.watch.watcher import HOUR, Watcher
from tests.server.evidence.test_outcomes import ONE
from tests.support import Federation, configured, table

pytestmark = pytest.mark.whole

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


@pytest.fixture
def place(tmp_path: Path, dataset: Path) -> Place:
    return Place(tmp_path, configured(dataset, registration__promotion="earned", watch=WATCH))


def decay(place: Place) -> None:
    """The champion says the opposite of what comes."""
    place.hear(120, {1: WRONG})


def renew(place: Place) -> None:
    """New rows at a client, so that a run makes another model."""
    path = Path(Home(place.federation.homes["east"]).policy.source.files[0])
    pd.read_parquet(path).iloc[:-5].to_parquet(path)


def test_the_first_version_is_champion_the_next_earns_its_place(place: Place) -> None:
    [(what, why)] = place.look()
    assert (what, "no version is champion yet: v1 is champion" in why) == ("ran", True)
    assert place.look(hours=2) == []
    decay(place)
    renew(place)
    [(what, why)] = place.look()
    assert (what, "roc_auc is" in why, "v2 is challenger" in why) == ("ran", True, True)
    assert [one.version for one in (place.registry.champion("stay"), place.registry.challenger("stay")) if one] == [
        1,
        2,
    ]
    assert place.look() == [("began", "20% of the subjects")]
    assert place.registry.traffic("stay").shares == {"champion": 0.8, "2": 0.2}
    assert place.look() == []
    place.hear(300, {1: 0.5, 2: 0.5}, seed=2)
    [(what, why)] = place.look()
    assert (what, "50% from now on" in why) == ("grew", True)
    assert place.registry.traffic("stay").shares == {"champion": 0.5, "2": 0.5}
    place.hear(1500, {1: WRONG, 2: 0.2}, seed=3)
    [(what, why)] = place.look()
    assert (what, "v2 is better" in why) == ("promoted", True)
    champion = place.registry.champion("stay")
    assert champion
    assert champion.version == 2
    assert place.registry.challenger("stay") is None
    assert place.registry.traffic("stay").shares == {"champion": 1.0}
    tags = place.registry._client().get_model_version("stay", "2").tags
    assert "v2 is better" in tags["earned"]
    assert '"verdict": "promote"' in tags["evidence"]
    assert [one.what for one in place.watcher.book.decisions()] == ["ran", "ran", "began", "grew", "promoted"]


def test_a_challenger_that_is_worse_is_dropped_for_good(place: Place) -> None:
    place.look()
    decay(place)
    renew(place)
    place.look(hours=2)
    place.look()
    place.hear(2000, {1: 0.2, 2: WRONG}, seed=4)
    [(what, why)] = place.look()
    assert (what, "v2 is worse" in why) == ("dropped", True)
    assert place.registry.version("stay", 2).dropped
    assert place.registry.traffic("stay").shares == {"champion": 1.0}
    assert place.federation.run().deployment.challenger is None, "the same version does not come back"
    assert place.registry.challenger("stay") is None


def test_a_budget_that_is_spent_is_said_once_and_nothing_is_charged(tmp_path: Path, dataset: Path) -> None:
    watch = {**WATCH, "every_hours": 1, "budget_hours": 5}
    place = Place(tmp_path, configured(dataset, watch=watch, simulation__lifetime_epsilon=4.0))
    place.look()
    charged = place.charged
    [(what, why)] = place.look(hours=2)
    assert (what, "clients could pay for this run" in why, "hours ago" in why) == ("refused", True, True)
    calls = place.command.calls
    assert place.look(hours=2) == []
    assert place.command.calls == calls, "not asked before its time"
    assert place.look(hours=4) == []
    assert place.command.calls == calls + 1
    assert place.charged == charged
    for home in place.federation.homes.values():
        policy = Home(home).policy
        Home.write_policy(home, policy.model_copy(update={"lifetime_epsilon": 20.0}))
    place.begin()
    assert place.look() == [], "also by a new watcher"
    assert [what for what, _ in place.look(hours=6)] == ["ran"]


def test_data_that_changed_is_a_reason_and_the_same_data_none(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, watch={**WATCH, "sources_hours": 2}))
    place.look()
    assert place.look(hours=3) == []
    renew(place)
    assert place.look(hours=1) == []
    [(what, why)] = place.look(hours=3)
    assert (what, "the data of east changed" in why) == ("ran", True)


def test_inputs_that_moved_are_a_reason(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, watch={**WATCH, "rows": 200}, statistics__epsilon_share=0.3))
    place.look()
    champion = place.registry.champion("stay")
    assert champion
    model = ServedModel.load(champion)
    board = directed(place.space.scratch / f"serving-{os.getpid()}")
    board.publish(Lineup(number=1, name="stay"))
    Status.of(Lineup(number=1, name="stay"), {}).write(board.folder)

    def ask(rows: pd.DataFrame) -> None:
        intake = Intake()
        for at in range(0, len(rows), SAMPLED):
            intake.take(1, rows[["age", "lab", "unit"]][at : at + SAMPLED].to_dict("records"))
            intake.count({1: model})
        board.report(Replied(replica="one"), [], intake.counted)

    ask(table(600, 5))
    assert place.look(hours=2) == []
    moved = table(600, 6)
    moved["unit"] = "intensive"
    ask(moved)
    [(what, why)] = place.look(hours=2)
    assert (what, "inputs of unit moved" in why) == ("ran", True)


def test_a_run_that_was_cut_off_is_gone_on_with_under_its_name(place: Place) -> None:
    class Cut(Here):
        def call(self, *more: str) -> Ended:
            if "--run" not in more:
                return super().call(*more)
            assert self.federation
            self.federation.work(Part(run_id(more[1]), "training"))
            raise KeyboardInterrupt

    place.command = Cut((), federation=place.federation)
    place.watcher.command = place.command
    with pytest.raises(KeyboardInterrupt):
        place.look()
    charged, pending = place.charged, place.watcher.book.read().pending
    assert pending
    place.begin()
    [(what, _)] = place.look()
    assert (what, place.decisions[-1].run) == ("ran", pending)
    assert "training" not in place.federation.executed
    assert place.charged > charged, "only the evaluation was still to be paid"


def test_after_failures_it_waits_longer_each_time(place: Place) -> None:
    class Broken(Here):
        def call(self, *more: str) -> Ended:
            self.calls += 1
            return Ended(5, "round 4: 2 of 7 clients answered", "cohort-too-small")

    place.watcher.command = place.command = Broken(())
    waited = []
    for _ in range(4):
        while not (told := place.look(hours=1 / 60)):
            waited.append(1)
        assert "2 of 7 clients answered; tried again in" in told[0][1]
    assert [one.why.rpartition(" in ")[2] for one in place.decisions] == ["60 s", "120 s", "240 s", "480 s"]
    assert place.command.calls == 4
    place.begin()
    assert place.look() == [], "also after a restart"


def ramped(place: Place) -> None:
    """v2 is challenger of v1, and has its first share."""
    place.look()
    decay(place)
    renew(place)
    place.look(hours=2)
    assert [what for what, _ in place.look()] == ["began"]


def test_traffic_that_a_person_divided_is_not_touched(place: Place) -> None:
    place.look()
    decay(place)
    renew(place)
    place.look(hours=2)
    by_hand = Traffic(shares={"champion": 0.9, "1": 0.1}, salt="mine")
    place.registry.direct("stay", by_hand)
    [(what, why)] = place.look()
    assert (what, "divided by hand" in why) == ("waits", True)
    assert place.look() == [], "said once"
    assert place.registry.traffic("stay") == by_hand
    place.registry.direct("stay", Traffic())
    assert [what for what, _ in place.look()] == ["began"]


def test_a_ramp_ends_where_a_person_moves_traffic(place: Place) -> None:
    ramped(place)
    by_hand = Traffic(shares={"champion": 1.0}, salt="mine")
    place.registry.direct("stay", by_hand)
    assert place.look() == [("left", "traffic was moved by hand")]
    assert place.look() == []
    assert place.registry.traffic("stay") == by_hand
    assert place.registry.challenger("stay") is None


def test_a_ramp_ends_where_a_person_rolls_back(place: Place) -> None:
    ramped(place)
    crown(place.space, "stay", 1, lambda text: None)
    assert place.registry.challenger("stay") is None
    assert place.look() == [("left", "traffic was moved by hand")]
    assert place.registry.traffic("stay").shares == {"champion": 1.0}


def test_a_challenger_that_a_person_promotes_has_won(place: Place) -> None:
    ramped(place)
    crown(place.space, "stay", 2, lambda text: None)
    assert place.look() == [("promoted", "it was made champion by hand")]
    assert not place.registry.version("stay", 2).dropped


def test_a_promotion_that_was_cut_off_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ramped(place)
    place.hear(2000, {1: WRONG, 2: 0.2}, seed=3)
    promote = Registry.promote

    def cut(self: Registry, name: str, version: int) -> None:
        promote(self, name, version)
        raise ServingError("process 7 has not followed within 60 s")

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "promote", cut)
        [(what, why)] = place.look()
        assert (what, "not followed" in why) == ("failed", True)
    [(what, why)] = place.look(hours=1)
    assert (what, "v2 is better" in why) == ("promoted", True)
    assert place.registry.traffic("stay").shares == {"champion": 1.0}
    assert place.registry.challenger("stay") is None
    assert not place.registry.version("stay", 2).dropped


def test_another_challenger_is_not_dropped_with_the_first(place: Place) -> None:
    ramped(place)
    files = {path.name: path.read_bytes() for path in place.registry.version("stay", 2).folder.iterdir()}
    third = place.registry.register("stay", {**files, "note.json": b"3"}, {}, {})
    place.registry.challenge("stay", third.version)
    place.hear(2000, {1: 0.2, 2: WRONG}, seed=4)
    assert [what for what, _ in place.look()] == ["dropped"]
    named = place.registry.challenger("stay")
    assert named
    assert named.version == third.version


def test_without_a_champion_traffic_stays_as_it_is(place: Place) -> None:
    ramped(place)
    before = place.registry.traffic("stay")
    place.registry._client().delete_registered_model_alias("stay", "champion")
    assert place.look() == []
    assert "no champion" in place.watcher.state.told
    assert place.registry.traffic("stay") == before


def test_what_a_run_did_not_mend_is_no_reason_again(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, registration__max_error=1e-9, watch=WATCH))
    place.look()
    place.registry.promote("stay", 1)
    decay(place)
    [(what, why)] = place.look(hours=2)
    assert (what, "stays out" in why or "is champion" in why) == ("ran", True)
    for _ in range(3):
        renew(place)
        assert place.look(hours=2) == []


def test_a_run_that_failed_is_asked_about_anew(place: Place) -> None:
    class Broken(Here):
        def call(self, *more: str) -> Ended:
            if "--run" in more:
                return Ended(5, "the data source of east has changed", "source-changed")
            return super().call(*more)

    place.watcher.command = Broken((), federation=place.federation)
    assert [what for what, _ in place.look()] == ["failed"]
    assert place.watcher.state.pending == ""
    place.watcher.command = place.command
    assert [what for what, _ in place.look(hours=1)] == ["ran"]


def test_a_champion_of_before_is_no_reason_to_run_at_once(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, watch={**WATCH, "every_hours": 5}))
    place.federation.run()
    assert place.look() == []
    [(what, why)] = place.look(hours=6)
    assert (what, "6.0 hours ago" in why) == ("ran", True)


def test_a_policy_that_changed_is_no_new_data_nor_a_client_that_was_away(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, watch={**WATCH, "sources_hours": 2}))
    place.look()
    home = place.federation.homes["east"]
    Home.write_policy(home, Home(home).policy.model_copy(update={"lifetime_epsilon": 19.0}))
    assert place.look(hours=3) == []
    grid = place.federation.grid
    away = next(node for node, name in grid.names.items() if name == "west")
    name = grid.names.pop(away)
    renew(place)
    assert [what for what, _ in place.look(hours=3)] == ["ran"]
    grid.names[away] = name
    assert place.look(hours=3) == []


def test_another_run_is_waited_for(place: Place) -> None:
    from pipeline.host.locking import locked

    with locked(place.space.root / "lock"):
        held = threading.Event()
        assert place.look() == [("waits", "another run is under way")]
        assert place.look() == []
        held.set()
    assert [what for what, _ in place.look()] == ["ran"]


def test_what_it_remembers_is_not_guessed(place: Place) -> None:
    place.look()
    (place.watcher.book.folder / "state.json").write_text("{")
    with pytest.raises(StorageError, match=r"state\.json cannot be read"):
        place.begin()
    with open(place.watcher.book.folder / "decisions.jsonl", "a") as file:
        file.write('{"time": 1')
    assert len(list(place.watcher.book.decisions())) == 1


def test_a_registry_that_is_away_is_not_made_anew_and_its_copy_is_read(place: Place) -> None:
    place.look()
    path = Path(place.space.registry_url.removeprefix("sqlite:///"))
    path.rename(path.with_name("kept"))
    [(what, why)] = place.look(hours=2)
    assert (what, "the registry is away" in why) == ("failed", True)
    assert not path.exists()
    shutil.copy(path.with_name("kept"), path)
    assert place.look(hours=2) == []
    assert place.watcher.state.failures == 0


def test_a_database_that_is_broken_is_survived(place: Place) -> None:
    place.look()
    path = Path(place.space.registry_url.removeprefix("sqlite:///"))
    path.write_bytes(b"no database" * 100)
    for _ in range(3):
        assert [what for what, _ in place.look(hours=24)] == ["failed"]
    place.watcher.state = place.watcher.state.model_copy(update={"failures": 5000})
    assert [what for what, _ in place.look(hours=48)] == ["failed"]


def test_a_disk_that_is_full_is_survived(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.watch.state.write_atomically", full)
    [(what, why)] = place.look()
    assert (what, "No space left" in why) == ("failed", True)
    assert place.look() == [], "it rests all the same"


def test_endpoints_of_other_models_are_no_evidence(tmp_path: Path, dataset: Path) -> None:
    place = Place(tmp_path, configured(dataset, watch={**WATCH, "rows": 100}, statistics__epsilon_share=0.3))
    place.look()
    board = directed(place.space.scratch / f"serving-{os.getpid()}")
    board.publish(Lineup(number=1, name="another"))
    Status.of(Lineup(number=1, name="another"), {}).write(board.folder)
    board.report(Replied(replica="one"), [], {"1": {"age": [500] + [0] * 51, "lab": [500] + [0] * 51}})
    assert place.look(hours=2) == []
