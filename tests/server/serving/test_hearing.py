"""`POST /feedback`: what became of predictions."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.store.registry import Registry
from server.evidence.outcomes import Outcomes
from server.evidence.receipts import Receipts
from server.serving.gateway.api import application
from server.serving.gateway.asking import Desk
from server.serving.gateway.door import Door
from server.serving.gateway.limiting import Limits
from server.serving.gateway.measures import Measures
from server.serving.gateway.remembering import Memory
from server.serving.keys.keyring import Keyring
from server.serving.traffic.lineup import Board, Held, Lineup
from server.serving.traffic.shelf import Shelf
from tests.conftest import Trained
from tests.server.serving.test_questions import JSON, ROW, through


class House:
    """An endpoint's application in this process, with two versions that are one."""

    def __init__(self, trained: Trained, folder: Path, **lineup: Any) -> None:
        workspace: Any = trained.workspace
        registered = Registry(workspace.registry_url, workspace.models).champion("stay")
        assert registered
        held = Held.of(registered)
        board = Board(folder)
        told = {"shares": {1: 1.0}, "champion": 1, **lineup}
        board.publish(
            Lineup(number=1, name="stay", held=(held, held.model_copy(update={"version": 2})), salt="s", **told)
        )
        shelf = Shelf(board)
        shelf.look()
        shelf.load()
        self.measures = Measures("one", board)
        self.outcomes = Outcomes(f"sqlite:///{folder}/feedback.db")
        self.memory = Memory(self.outcomes, "stay", self.measures)
        desk = Desk(shelf, self.measures, Receipts(folder / "r.key", "stay"), 20, None, self.memory)
        self.keyring = Keyring(folder / "keys.json")
        self.app = application(desk, self.outcomes)
        self.door = Door(self.app, self.keyring, self.measures, 2**16, 5.0)

    def limited(self, per_minute: int) -> Door:
        return Door(self.app, self.keyring, self.measures, 2**16, 5.0, Limits(per_minute))

    def ask(self, path: str, told: Any, **headers: str) -> tuple[int, Any]:
        status, _, content = through(self.door, path, json.dumps(told).encode(), **headers)
        return status, json.loads(content)

    def predict(self, count: int = 1, **more: Any) -> dict[str, Any]:
        status, answer = self.ask("/predict", {"rows": [ROW] * count, **more})
        assert status == 200, answer
        return dict(answer)


@pytest.fixture
def house(trained: Trained, tmp_path: Path) -> House:
    return House(trained, tmp_path)


def test_an_outcome_is_judged_by_what_was_said(house: House) -> None:
    answer = house.predict()
    said = {"id": answer["id"], "outcome": "yes"}
    assert house.ask("/feedback", said) == (200, {"accepted": 1, "changed": 0, "repeated": 0})
    assert house.ask("/feedback", said) == (200, {"accepted": 0, "changed": 0, "repeated": 1})
    [one] = house.outcomes.of("stay")
    probability = answer["predictions"][0]["probability"]
    assert one.told[1][0] == pytest.approx(probability, abs=1e-6)
    assert one.penalties == {1: pytest.approx((1 - probability) ** 2, abs=1e-6)}
    assert (one.version, one.target, one.outcome) == (1, 1.0, "yes")
    later = {**said, "outcome": "no", "at": "2020-01-01T00:00:00+00:00"}
    assert house.ask("/feedback", later)[1]["repeated"] == 1
    assert house.ask("/feedback", {**said, "outcome": "no"})[1]["changed"] == 1
    assert house.outcomes.of("stay")[0].target == 0.0


def test_rows_are_told_of_one_by_one_as_they_become_known(house: House) -> None:
    id = house.predict(3)["id"]
    assert house.ask("/feedback", {"id": id, "outcomes": [None, "yes", None]})[1]["accepted"] == 1
    assert house.ask("/feedback", {"id": id, "outcomes": ["no", "yes", "no"]})[1] == {
        "accepted": 2,
        "changed": 0,
        "repeated": 1,
    }
    assert {one.row: one.target for one in house.outcomes.of("stay")} == {0: 0.0, 1: 1.0, 2: 0.0}
    assert len({one.unit for one in house.outcomes.of("stay")}) == 3


def test_a_list_of_messages_is_taken_whole_or_not_at_all(house: House) -> None:
    good = {"id": house.predict()["id"], "outcome": "yes"}
    status, told = house.ask("/feedback", [good, {**good, "id": "nobody's"}])
    assert (status, house.outcomes.of("stay")) == (404, [])
    assert "no prediction of this endpoint" in told["detail"]
    assert house.ask("/feedback", [good, {"id": house.predict()["id"], "outcome": "no"}])[1]["accepted"] == 2


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"id": "v1-1-0123456789abcdef-0123456789abcdef"}, 404, "no prediction of this endpoint"),
        ({"id": 7}, 422, "id: expected"),
        ({"outcome": None}, 422, "null says nothing"),
        ({"outcome": ""}, 422, "is no outcome: expected whether died is in"),
        ({"outcome": {"a": 1}}, 422, "a text, a number, true or false"),
        ({"outcome": "a\x00b"}, 422, "characters that are none"),
        ({"outcome": 10**400}, 422, "beyond what is a number"),
        ({"outcomes": ["yes"]}, 422, "expected outcome"),
        ({"at": "yesterday"}, 422, "at: expected a time"),
        ({"at": "2026-05-01T12:00:00"}, 422, "at: expected a time"),
        ({"at": "2999-05-01T12:00:00+00:00"}, 422, "that has not been yet"),
        ({"more": 1}, 422, "no such field: more"),
    ],
)
def test_what_means_nothing_is_refused_and_counted(house: House, change: Any, status: int, told: str) -> None:
    found, answer = house.ask("/feedback", {"id": house.predict()["id"], "outcome": "yes", **change})
    assert (found, house.outcomes.of("stay")) == (status, [])
    assert told in answer["detail"]
    what = "foreign" if status == 404 else "refused"
    assert f'sottovoce_feedback_total{{what="{what}"}} 1.0' in house.measures.page().decode()


def test_an_id_of_another_workspace_is_foreign(trained: Trained, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = House(trained, tmp_path / "a"), House(trained, tmp_path / "b")
    assert other.ask("/feedback", {"id": one.predict()["id"], "outcome": "yes"})[0] == 404


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["id", "outcome", "outcomes", "at", "x"]), JSON) | JSON)
def test_no_message_is_too_odd_for_an_answer(house: House, told: Any) -> None:
    if isinstance(told, dict) and "id" in told:
        told["id"] = house.predict()["id"]
    status, _, content = through(house.door, "/feedback", json.dumps(told).encode())
    assert status in (200, 400, 404, 422), content
    assert len(content) < 600


def test_a_draw_is_remembered_and_a_version_that_was_named_is_none(trained: Trained, tmp_path: Path) -> None:
    house = House(trained, tmp_path, shares={1: 0.5, 2: 0.5})
    answers = [house.predict(subject=f"patient {number}") for number in range(8)]
    answers.append(house.predict(version=2))
    house.ask("/feedback", [{"id": answer["id"], "outcome": "yes"} for answer in answers])
    *drawn, named = house.outcomes.of("stay")
    assert {one.version for one in drawn} == {1, 2}
    assert all(one.experiment and dict(one.shares) == {1: 0.5, 2: 0.5} for one in drawn)
    assert (named.version, named.experiment, named.shares) == (2, "", {})


def test_a_shadow_is_judged_by_the_same_outcome(trained: Trained, tmp_path: Path) -> None:
    house = House(trained, tmp_path, shadow=(2,))
    house.ask("/feedback", {"id": house.predict()["id"], "outcome": "no"})
    [one] = house.outcomes.of("stay")
    assert one.version == 1
    assert one.penalties[1] == one.penalties[2]


def test_rows_are_kept_for_whoever_trains_on_them(house: House) -> None:
    answers = [house.predict(subject="patient 17"), house.predict()]
    house.memory.close()
    house.ask("/feedback", {"id": answers[0]["id"], "outcome": "yes"})
    assert house.outcomes.records("stay") == (2, 1)
    from clients.sources.source import Source

    tree = {"kind": "stream", "url": house.outcomes.url, "model": "stay", "key": ["subject"], "hours": 1e-9}
    source = Source.of(tree)
    frame = source.read()
    assert frame.drop(columns="subject").to_dict("records") == [{**ROW, "died": "yes"}]
    assert len(frame["subject"][0]) == 16
    assert "patient" not in frame["subject"][0]
    before = source.seen()
    house.ask("/feedback", {"id": answers[1]["id"], "outcome": "no"})
    assert source.seen() != before
    assert source.read()["died"].tolist() == ["yes", "no"]


def test_a_key_for_feedback_says_outcomes_and_asks_nothing(house: House) -> None:
    id = house.predict()["id"]
    key = house.keyring.add("ward", ("feedback",))
    held = {"Authorization": f"Bearer {key}"}
    assert house.ask("/feedback", {"id": id, "outcome": "yes"}, **held)[0] == 200
    assert house.ask("/feedback", {"id": id, "outcome": "yes"})[0] == 401
    assert house.ask("/predict", {"rows": [ROW]}, **held)[0] == 403


def test_a_store_that_is_away_refuses_for_now_and_predictions_go_on(house: House, tmp_path: Path) -> None:
    id = house.predict()["id"]
    (tmp_path / "feedback.db").write_bytes(b"no database" * 100)
    status, told = house.ask("/feedback", {"id": id, "outcome": "yes"})
    assert (status, "say it again later" in told["detail"]) == (503, True)
    assert str(tmp_path) not in told["detail"]
    house.predict()
    house.memory.close()
    assert "sottovoce_rows_lost_total 2.0" in house.measures.page().decode()


def test_who_asks_too_often_is_told_when_to_come_again_and_nobody_else(house: House) -> None:
    keys = {name: house.keyring.add(name, ("predict",)) for name in ("ward", "other")}
    door = house.limited(3)

    def ask(name: str) -> tuple[int, dict[bytes, bytes], bytes]:
        body = json.dumps({"rows": [ROW]}).encode()
        return through(door, "/predict", body, Authorization=f"Bearer {keys[name]}")

    assert [ask("ward")[0] for _ in range(4)] == [200, 200, 200, 429]
    status, headers, content = ask("ward")
    assert (status, 1 <= int(headers[b"retry-after"]) <= 60) == (429, True)
    assert "more than 3 questions a minute" in json.loads(content)["detail"]
    assert ask("other")[0] == 200
    assert through(door, "/healthz")[0] == 200, "who supervises is not held up"


def test_more_outcomes_than_a_question_may_have_rows_are_too_many(house: House) -> None:
    id = house.predict(11)["id"]
    status, told = house.ask("/feedback", [{"id": id, "outcomes": ["yes"] * 11}] * 2)
    assert (status, "more than 20 outcomes" in told["detail"]) == (413, True)
    assert house.outcomes.of("stay") == []
