"""Accounting against published values, and against what restarts used to do to it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import PlanInvalid
from privacy.plan import DPPlan, Release, calibrate, counts_release, epsilon_of


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta", "expected"),
    [(3.0, 0.1, 512, 1e-6, 3.77), (9.66, 0.1, 512, 1e-6, 1.00), (1.0, 0.1, 100, 1e-5, 7.047)],
)
def test_golden_epsilons(sigma: float, rate: float, steps: int, delta: float, expected: float) -> None:
    assert epsilon_of([Release("sampled-gaussian", sigma, rate, steps)], delta) == pytest.approx(expected, abs=0.015)


def test_rdp_golden_and_never_below_pld() -> None:
    release = Release("sampled-gaussian", 1.0, 0.1, 100)
    assert epsilon_of([release], 1e-5, "rdp") == pytest.approx(7.899, abs=0.01)
    for sigma, rate, steps in [(1.3, 1 / 60, 900), (5.0, 0.2, 50), (0.8, 0.01, 1000)]:
        release = Release("sampled-gaussian", sigma, rate, steps)
        assert epsilon_of([release], 1e-5, "rdp") >= epsilon_of([release], 1e-5)


def test_ten_rounds_cost_what_one_run_of_ten_rounds_costs() -> None:
    whole = epsilon_of([Release("sampled-gaussian", 1.0, 0.1, 100)], 1e-5)
    rounds = epsilon_of([Release("sampled-gaussian", 1.0, 0.1, 10)] * 10, 1e-5)
    assert rounds == whole
    assert rounds > 2 * epsilon_of([Release("sampled-gaussian", 1.0, 0.1, 10)], 1e-5)


@settings(max_examples=15, deadline=None)
@given(
    epsilon=st.floats(0.3, 10),
    examples=st.integers(200, 50_000),
    batch=st.integers(16, 4096),
    rounds=st.integers(1, 20),
)
def test_a_plan_spends_its_budget_and_no_more(epsilon: float, examples: int, batch: int, rounds: int) -> None:
    plan = DPPlan.calibrated(
        epsilon=epsilon, delta=1e-6, examples=examples, expected_batch=batch, epochs=2, rounds=rounds, clipping_norm=1
    )
    assert 0.97 * epsilon <= epsilon_of([plan.round()] * rounds, 1e-6) <= epsilon
    assert plan.steps_per_round * plan.sampling_rate >= 2 - 1e-9


def test_counts_release_is_calibrated() -> None:
    assert 0.97 <= epsilon_of([counts_release(1.0, 1e-5)], 1e-5) <= 1.0
    assert math.isinf(epsilon_of([counts_release(None, 0.0)], 1e-5))


def test_no_release_costs_nothing_and_non_private_costs_everything() -> None:
    assert epsilon_of([], 1e-5) == 0
    plan = DPPlan.non_private(examples=100, expected_batch=10, epochs=1, rounds=1)
    assert math.isinf(epsilon_of([plan.run(), Release("gaussian", 5.0)], 1e-5))


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_impossible_budgets_are_named(epsilon: float, delta: float) -> None:
    with pytest.raises(PlanInvalid, match="expected"):
        calibrate(epsilon, delta, 0.1, 10)


def test_delta_above_one_over_rows_and_no_rows_are_refused() -> None:
    shape = {"epsilon": 1.0, "expected_batch": 10, "epochs": 1, "rounds": 1, "clipping_norm": 1.0}
    with pytest.raises(PlanInvalid, match="one over the number"):
        DPPlan.calibrated(delta=0.02, examples=100, **shape)  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="no training rows"):
        DPPlan.calibrated(delta=1e-5, examples=0, **shape)  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="clipping_norm"):
        DPPlan.calibrated(delta=1e-5, examples=100, **{**shape, "clipping_norm": 0.0})  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="no noise"):
        calibrate(1e-6, 1e-9, 0.9, 100_000)
