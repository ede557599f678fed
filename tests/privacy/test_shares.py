"""Client-level noise: shares that add up to what was promised, over contributions that never exceed their norm."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import epsilon_of
from privacy.errors import PlanInvalid
from privacy.group import Group, Terms
from privacy.keys import Identity
from privacy.layout import Layout
from privacy.noise import SecureNoise
from privacy.plan import DPPlan
from privacy.shares import NoiseShares
from privacy.statement import Statement
from privacy.sums import Adder, Holder

NAMES = ("a", "b", "c", "d", "e")
STATEMENT = Statement("e1", "train", 1, NAMES, "terms")
IDENTITIES = {name: Identity(bytes([number + 1]) * 64) for number, name in enumerate(NAMES)}
TERMS = Terms("e1", "train", 1, "bfv", True, {name: one.public for name, one in IDENTITIES.items()})
SHAPE: dict[str, Any] = {"examples": 500, "expected_batch": 50, "epochs": 1}
Array = np.ndarray[tuple[int], np.dtype[np.float64]]


class Silent(SecureNoise):
    """No noise: what is left is the contribution."""

    def discrete_gaussian(self, scale: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.zeros(count, dtype=np.int64)


@pytest.fixture(scope="module")
def holders() -> dict[str, Holder]:
    group = Group.create(TERMS)
    return {name: Holder(group, one, name) for name, one in IDENTITIES.items()}


def total(holders: dict[str, Holder], updates: dict[str, Array], shares: NoiseShares, source: SecureNoise) -> Array:
    """The opened sum of the clients' updates, without its weight."""
    count = len(updates["a"]) + 1
    adder = Adder("bfv", TERMS.layout, STATEMENT, TERMS.layout.coefficients(count))
    for name, update in updates.items():
        made = holders[name].noised(update, STATEMENT, shares, source)
        adder.add(holders[name].seal(made, STATEMENT), name, TERMS.roster[name])
    opened = holders["a"].open_values(adder.total(), STATEMENT, NAMES, count, shares.bound)
    assert opened[-1] / shares.bound == pytest.approx(len(NAMES), rel=1e-4), "every client weighs the same"
    return opened[:-1]


@pytest.mark.parametrize("noise", [0.5, 4.0, 20.0])
def test_shares_add_up_to_the_promised_noise(holders: dict[str, Holder], noise: float) -> None:
    shares = NoiseShares(noise, clipping_norm=0.5, cohort=5, colluders=1)
    drawn = total(holders, dict.fromkeys(NAMES, np.zeros(6000)), shares, SecureNoise())
    expected = shares.deviation * math.sqrt(len(NAMES))
    assert drawn.std() == pytest.approx(expected, rel=0.05)
    assert abs(drawn.mean()) < 5 * expected / math.sqrt(len(drawn))
    without_one = shares.deviation * math.sqrt(shares.honest)
    assert without_one == pytest.approx(noise * 0.5), "also for who knows its own share"


def test_shares_of_clients_and_of_sums_are_independent(holders: dict[str, Holder]) -> None:
    shares = NoiseShares(4.0, 0.5, 5, 1)
    first, second = (total(holders, dict.fromkeys(NAMES, np.zeros(3000)), shares, SecureNoise()) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08
    alone = [
        total(holders, dict.fromkeys(NAMES, np.zeros(3000)), shares, OnlyThe(number)) for number in range(len(NAMES))
    ]
    correlations = np.corrcoef(alone) - np.eye(len(NAMES))
    assert np.abs(correlations).max() < 0.08


class OnlyThe(SecureNoise):
    """Noise for one of the five clients."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number, self._calls = number, -1

    def discrete_gaussian(self, scale: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        self._calls += 1
        drawn = super().discrete_gaussian(scale, count)
        return drawn if self._calls == self._number else np.zeros_like(drawn)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["normal", "spike", "zero", "nan", "inf", "huge"]),
    size=st.floats(1e-3, 1e9),
    seed=st.integers(0, 2**32 - 1),
    noise=st.floats(0.3, 20),
)
def test_one_client_adds_at_most_the_clipping_norm(
    holders: dict[str, Holder], kind: str, size: float, seed: int, noise: float
) -> None:
    """Rounding to levels counts: what is added, not what was meant, is what is bounded."""
    shares = NoiseShares(noise, clipping_norm=0.5, cohort=5, colluders=1)
    update = np.random.default_rng(seed).normal(0, size, 400)
    if kind == "spike":
        update[1:] = 0
    elif kind != "normal":
        update[:] = {"zero": 0.0, "nan": math.nan, "inf": math.inf, "huge": 1e300}[kind]
    alone = replace(STATEMENT, cohort=("b",))
    made = holders["b"].noised(update, alone, shares, Silent())
    adder = Adder("bfv", TERMS.layout, alone, TERMS.layout.coefficients(401))
    adder.add(holders["b"].seal(made, alone), "b", TERMS.roster["b"])
    added = holders["a"].open_values(adder.total(), alone, ("b",), 401, shares.bound)[:-1]
    assert np.linalg.norm(added) <= shares.clipping_norm * (1 + 1e-9)
    if kind in ("normal", "spike") and size > 10:
        whole = min(shares.clipping_norm, float(np.linalg.norm(update)))
        assert np.linalg.norm(added) > 0.9 * whole - 1e-3, "and no less than need be"


def test_levels_too_coarse_for_the_norm_are_refused() -> None:
    crowd = {f"c{number}": Identity(bytes([number + 1, 1]) * 32) for number in range(60)}
    terms = Terms("e1", "train", 1, "bfv", True, {name: one.public for name, one in crowd.items()})
    holder = Holder(Group.create(terms), crowd["c0"], "c0")
    statement = Statement("e1", "train", 1, tuple(crowd))
    with pytest.raises(PlanInvalid, match="alone exceeds the clipping norm"):
        holder.noised(np.ones(3_000_000), statement, NoiseShares(300.0, 0.01, 3, 1), SecureNoise())
    assert Layout.for_cohort(60).lanes == 2


def test_noise_is_sized_for_the_smallest_honest_cohort() -> None:
    shares = NoiseShares.calibrated(epsilon=8.0, delta=1e-5, releases=11, clipping_norm=1.0, cohort=50, colluders=1)
    assert shares.honest == 49
    plan = DPPlan.client_level(epsilon=8.0, delta=1e-5, shares=shares, rounds=10, **SHAPE)
    assert 7.9 <= epsilon_of([plan.run(), plan.round()], 1e-5) <= 8.0

    def if_present(part: float) -> float:
        fewer = replace(plan, noise_multiplier=plan.noise_multiplier * math.sqrt(part))
        return epsilon_of([fewer.run(), fewer.round()], 1e-5)

    assert if_present(0.9) == pytest.approx(8.5, abs=0.1), "a tenth dropped out, unplanned for"
    assert if_present(0.5) == pytest.approx(12.3, abs=0.3), "half did: therefore nobody takes part below the cohort"


def test_plans_that_promise_too_much_are_refused() -> None:
    with pytest.raises(PlanInvalid, match="nobody to add noise"):
        NoiseShares.calibrated(epsilon=8.0, delta=1e-5, releases=11, clipping_norm=1.0, cohort=3, colluders=3)
    with pytest.raises(PlanInvalid, match="costs more than epsilon"):
        DPPlan.client_level(epsilon=1.0, delta=1e-5, shares=NoiseShares(1.0, 1.0, 5, 1), rounds=10, **SHAPE)
    with pytest.raises(PlanInvalid, match="one over the number of clients"):
        DPPlan.client_level(epsilon=8.0, delta=0.3, shares=NoiseShares(30.0, 1.0, 5, 1), rounds=10, **SHAPE)
