"""What is next for a challenger: harm first, evidence then, traffic last."""

import re

import pytest

from pipeline.language.settings.watch import RampConfig
from server.evidence.experiments import Comparison, comparisons
from server.watch.ramp import Health, Ramp, health, next_move
from tests.server.evidence.test_experiments import SHARES, drawn

RAMP = Ramp(challenger=2, champion=1, experiment="0badcafe", salt="s", began=0.0)
CONFIG = RampConfig(shares=(0.1, 0.5), subjects=100, deadline_hours=10)
WELL = Health(questions=1000, seconds=1.0)


def compared(count: int, good: dict[int, float]) -> Comparison:
    [found] = comparisons(drawn(count, SHARES, good))
    return found


BETTER, WORSE, EQUAL = {1: 0.6, 2: 0.2}, {1: 0.2, 2: 0.6}, {1: 0.4, 2: 0.4}


@pytest.mark.parametrize(
    ("found", "challenger", "hours", "what", "why"),
    [
        (None, WELL, 1, "wait", "no outcome has come yet"),
        (compared(100, EQUAL), WELL, 1, "wait", "neither is better for certain"),
        (compared(1000, EQUAL), WELL, 1, "grow", "50% from now on"),
        (compared(4000, BETTER), WELL, 1, "promote", "v2 is better"),
        (compared(4000, WORSE), WELL, 1, "drop", "v2 is worse"),
        (compared(100, EQUAL), WELL, 11, "drop", "not shown to be better within 10 hours"),
        (None, WELL, 11, "drop", "no outcome has come"),
        (compared(4000, BETTER), Health(questions=100, failed=5, seconds=0.1), 1, "drop", "broke on 5 of 100"),
        (compared(4000, BETTER), Health(questions=100, seconds=5.0), 1, "drop", "takes 50.0 ms .* the champion 1.0"),
        (compared(4000, BETTER), Health(refused="altered"), 1, "drop", "v2 is refused: altered"),
        (None, Health(questions=2, failed=2), 1, "wait", "no outcome"),
        (None, Health(questions=10, seconds=5.0), 1, "wait", "no outcome"),
    ],
)
def test_the_next_move(found: Comparison | None, challenger: Health, hours: float, what: str, why: str) -> None:
    move = next_move(RAMP.model_copy(update={"served": hours * 3600}), CONFIG, found, challenger, WELL)
    assert move.what == what
    assert re.search(why, move.why), move.why


def test_the_last_share_is_kept_until_evidence_or_deadline() -> None:
    last = RAMP.model_copy(update={"step": 1})
    assert next_move(last, CONFIG, compared(4000, EQUAL), WELL, WELL).what == "wait"


def test_health_is_the_sum_of_all_replicas() -> None:
    one = [
        ["sottovoce_version_failed_total", {"version": "2"}, 1.0],
        ["sottovoce_version_seconds_count", {"version": "2"}, 9.0],
        ["sottovoce_version_seconds_sum", {"version": "2"}, 0.9],
        ["sottovoce_version_seconds_count", {"version": "1"}, 70.0],
    ]
    found = health([*one, *one], 2)
    assert (found.questions, found.failed) == (20, 2)
    assert found.mean == pytest.approx(0.1)
    later = found.since(Health(questions=15, failed=2, seconds=1.3))
    assert (later.questions, later.failed, later.mean) == (5, 0, pytest.approx(0.1))
    assert found.since(Health(questions=50)) == found, "endpoints began anew"


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 0.1), (1.0,), (0.1, 0.1)])
def test_shares_rise(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        RampConfig(shares=shares)
