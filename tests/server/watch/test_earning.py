"""How a version earns its place, and what a person's hand does to that."""

import pytest

from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic
from privacy.errors import ServingError
from server.serving.traffic.moving import crown
from tests.server.watch.place import WRONG, Place, decay, renew

pytestmark = pytest.mark.whole


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
