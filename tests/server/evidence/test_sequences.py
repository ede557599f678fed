"""Intervals that hold however often one looks: simulated."""

import math

import numpy as np
import pytest

from server.evidence.sequences import difference, mean_sequence, mismatch, needed

ALPHA = 0.05
LOOKS = 40
RUNS = 100


def penalties(source: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Mostly small, some large: as Brier scores are."""
    large = source.random(count) < 0.2 + shift
    return np.where(large, source.beta(6, 2, count), source.beta(1, 8, count))


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_equal_versions_are_told_apart_in_at_most_five_of_a_hundred_experiments(share: float) -> None:
    source, alarms = np.random.default_rng(7), 0
    for _ in range(RUNS):
        chosen, values = source.random(3000) < share, penalties(source, 3000)
        shares = np.full(3000, share)
        looks = np.unique(np.geomspace(2, 3000, LOOKS).astype(int))
        shown = [difference(chosen[:at], shares[:at], values[:at], ALPHA) for at in looks]
        alarms += any(one.low > 0 or one.high < 0 for one in shown)
    assert alarms <= 5


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_stated_effect_is_found_about_when_it_was_said_to_be(share: float) -> None:
    source, effect = np.random.default_rng(8), 0.1
    true = penalties(source, 10**6, -effect).mean() - penalties(source, 10**6).mean()
    spread = penalties(source, 10**6).std() * math.sqrt(1 / share + 1 / (1 - share))
    count = needed(true, spread, 2 / min(share, 1 - share), ALPHA)
    assert count
    found = 0
    for _ in range(20):
        chosen = source.random(2 * count) < share
        values = np.where(chosen, penalties(source, 2 * count, -effect), penalties(source, 2 * count))
        shown = difference(chosen, np.full(2 * count, share), values, ALPHA)
        found += shown.high < 0
        assert shown.low < true < shown.high
    assert found >= 16


def test_a_share_that_grows_in_between_biases_nothing() -> None:
    """The naive difference of means would: the later subjects, of whom more are chosen, fare worse."""
    source, count = np.random.default_rng(9), 20_000
    shares = np.where(np.arange(count) < count // 2, 0.1, 0.5)
    late = np.where(np.arange(count) < count // 2, 0.0, 0.3)
    chosen, values = source.random(count) < shares, np.clip(penalties(source, count) / 2 + late, 0, 1)
    naive = values[chosen].mean() - values[~chosen].mean()
    shown = difference(chosen, shares, values, ALPHA)
    assert naive > 0.08
    assert shown.low < 0 < shown.high
    assert shown.half < 0.05


def test_the_mean_is_covered_at_all_times_together() -> None:
    source, missed = np.random.default_rng(10), 0
    for _ in range(RUNS):
        values = source.beta(2, 5, 1000)
        shown = [mean_sequence(values[:at], 1.0, ALPHA, 0.5) for at in range(1, 1000, 25)]
        missed += any(not one.low < 2 / 7 < one.high for one in shown)
    assert missed <= 5
    assert shown[-1].half < 0.1


def test_without_a_value_nothing_is_known() -> None:
    shown = mean_sequence(np.array([]), 1.0, ALPHA)
    assert (shown.low, shown.high, shown.count) == (-math.inf, math.inf, 0)


def test_shares_that_were_not_kept_are_noticed_and_those_that_were_are_not() -> None:
    source, alarms = np.random.default_rng(11), 0
    for _ in range(RUNS):
        chosen = source.random(5000) < 0.1
        counts = [{1: int((~chosen[:at]).sum()), 2: int(chosen[:at].sum())} for at in range(1, 5000, 50)]
        alarms += any(mismatch(one, {1: 0.9, 2: 0.1}) >= math.log(20) for one in counts)
    assert alarms <= 5
    assert mismatch({1: 4700, 2: 300}, {1: 0.9, 2: 0.1}) > math.log(1000)
    assert mismatch({1: 10, 3: 1}, {1: 0.9, 2: 0.1}) == math.inf


def test_what_needs_too_much_is_said() -> None:
    assert needed(0.0, 0.1, 2.0, ALPHA) is None
    assert needed(1e-7, 0.5, 2.0, ALPHA) is None
