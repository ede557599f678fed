"""Accounting against published values, and against what restarts used to do to it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Release, calibrate, epsilon_of
from privacy.errors import PlanInvalid
from privacy.plan import DPPlan


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


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta"),
    [
        (1.0, 0.1, 100, 1e-5),
        (3.0, 0.1, 512, 1e-6),
        (0.7, 0.02, 400, 1e-5),
        (1.3, 1 / 60, 900, 1e-5),
        (5.0, 0.5, 50, 1e-5),
    ],
)
def test_pld_and_prv_agree_and_rdp_is_above_both(sigma: float, rate: float, steps: int, delta: float) -> None:
    """PRV is Opacus's own accountant (Gopi et al. 2021), PLD dp-accounting's (Koskela et al. 2020): two programs."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, rate, steps)]
    prv = accountant.get_epsilon(delta, eps_error=0.005)
    release = Release("sampled-gaussian", sigma, rate, steps)
    pld, rdp = epsilon_of([release], delta), epsilon_of([release], delta, "rdp")
    assert pld == pytest.approx(prv, abs=0.02)
    assert rdp >= max(pld, prv - 0.005)


FLAMBY = {"cleveland": 199, "hungarian": 172, "switzerland": 30, "va": 85}


@pytest.mark.filterwarnings("ignore:Optimal order is")
@pytest.mark.parametrize("rows", FLAMBY.values(), ids=list(FLAMBY))
@pytest.mark.parametrize("delta", [1e-4, 1e-5])
def test_a_published_epsilon_of_one_is_really_more(rows: int, delta: float) -> None:
    """FLamby's Fed-Heart-Disease (du Terrail et al. 2022): batches of 4, noise for 15 epochs, 1,500 steps taken.

    Granted even that batches were Poisson, which they were not: they came from a shuffled loader, without any
    amplification, which is worth an epsilon above ten.
    """
    from opacus.accountants.utils import get_noise_multiplier

    batches = math.ceil(rows / 4)
    noise = get_noise_multiplier(
        target_epsilon=1.0, target_delta=delta, sample_rate=1 / batches, epochs=15, accountant="prv"
    )
    paid = epsilon_of([Release("sampled-gaussian", noise, 1 / batches, 15 * batches)], delta)
    taken = epsilon_of([Release("sampled-gaussian", noise, 4 / rows, 1500)], delta)
    shuffled = epsilon_of([Release("gaussian", noise, 1.0, 1500 // batches)], delta)
    assert 0.95 <= paid <= 1.0
    assert 1.4 < taken < 4.6
    assert shuffled > 10
    rounds = math.ceil(1500 / batches)
    honest = DPPlan.record_level(
        epsilon=1.0, delta=delta, examples=rows, expected_batch=4, epochs=1, rounds=rounds, clipping_norm=1
    )
    assert honest.run().count >= 1500
    assert epsilon_of([honest.run()], delta) <= 1.0
    assert honest.noise_multiplier > 1.3 * noise


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
    plan = DPPlan.record_level(
        epsilon=epsilon, delta=1e-6, examples=examples, expected_batch=batch, epochs=2, rounds=rounds, clipping_norm=1
    )
    assert 0.97 * epsilon <= epsilon_of([plan.round()] * rounds, 1e-6) <= epsilon
    assert plan.steps_per_round * plan.sampling_rate >= 2 - 1e-9


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
    with pytest.raises(PlanInvalid, match="not below one over the 100 training rows"):
        DPPlan.record_level(delta=0.02, examples=100, **shape)  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="no training rows"):
        DPPlan.record_level(delta=1e-5, examples=0, **shape)  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="clipping_norm"):
        DPPlan.record_level(delta=1e-5, examples=100, **{**shape, "clipping_norm": 0.0})  # type: ignore[arg-type]
    with pytest.raises(PlanInvalid, match="no noise"):
        calibrate(1e-6, 1e-9, 0.9, 100_000)
