"""When the pipeline runs by itself, and what it survives."""

import os
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

from clients.home import Home
from pipeline.lifecycle import Part
from pipeline.store.metadata import run_id
from privacy.errors import StorageError
from server.serving.gateway.intake import SAMPLED, Intake
from server.serving.traffic.director import directed
from server.serving.traffic.lineup import Lineup
from server.serving.traffic.lineup import Report as Replied
from server.serving.traffic.status import Status
from server.serving.version import ServedModel
from server.watch.running import Ended
from tests.server.watch.place import WATCH, Here, Place, decay, renew
from tests.support import configured, table

pytestmark = pytest.mark.whole


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
