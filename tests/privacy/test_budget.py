"""Lines of a budget: together they cost one epsilon for every record, and less noise than an epsilon cut up."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Release, calibrate, epsilon_of
from privacy.budget import Line, beside, by_clients, together
from privacy.errors import PlanInvalid
from privacy.population import EVERYONE, Charge, Population, exposures

DELTA = 1e-5
STEPS = Line("training", "training", batch=50, epochs=1, rounds=4)
COUNTS = Line("evaluation", "held-out")

shares = st.sampled_from([0.1, 0.3, 0.5])


@settings(max_examples=8, deadline=None)
@given(
    epsilon=st.floats(0.5, 8),
    checks=shares,
    asked=st.lists(shares, max_size=2),
    norm=st.sampled_from([1.0, 3.5]),
    rows=st.integers(60, 5000),
)
def test_lines_cost_epsilon_together(epsilon: float, checks: float, asked: list[float], norm: float, rows: int) -> None:
    lines = [Line("validation", "everyone", share=checks, touched=5)]
    lines += [Line(f"asked-{number}", "training", share=share, norm=norm) for number, share in enumerate(asked)]
    lines += [STEPS, COUNTS]
    made = together(epsilon, DELTA, lines, rows)
    assert list(made) == [line.purpose for line in lines]
    for line in lines:
        if line.share is not None:
            alone = epsilon_of([made[line.purpose]], DELTA)
            assert 0.99 * line.share * epsilon <= alone <= line.share * epsilon
    charges = [Charge([made[line.purpose]], line.population(0.2, "b")) for line in lines]
    costs = [epsilon_of(releases, DELTA) for releases in exposures(charges)]
    assert all(0.99 * epsilon <= cost <= epsilon for cost in costs)
    assert len(costs) == 2, "who trains and who is held out"


def test_noise_is_less_than_of_an_epsilon_that_is_cut_up() -> None:
    """Three lines of the same rows at epsilon 3: a statistic, a search, and training."""
    training = Line("training", "training", batch=100, epochs=1, rounds=10)
    lines = [Line("statistics", "training", share=0.3), Line("tuning", "training", share=0.45), training]
    made = together(3.0, DELTA, lines, rows=1000)
    assert made["statistics"].noise_multiplier < 4.3, "epsilon 0.3, a tenth of it, would have needed 11.2"
    assert calibrate(0.3, DELTA, 1.0, 1, "discrete-gaussian") > 11.0
    cut = calibrate(2.1, DELTA, 0.1, 100)
    assert made["training"].noise_multiplier < 0.92 * cut, "what is left of epsilon after 0.3 and 0.6 are subtracted"


def test_what_an_earlier_line_released_depends_on_no_later_one() -> None:
    first = Line("validation", "everyone", share=0.3, touched=5)
    alone = together(2.0, DELTA, [first, STEPS], 400)
    more = together(2.0, DELTA, [first, Line("statistics", "training", share=0.4), STEPS, COUNTS], 400)
    assert alone["validation"] == more["validation"]
    assert alone["training"].noise_multiplier < more["training"].noise_multiplier
    assert beside([first, STEPS], alone, "training") == (alone["validation"],)


def test_who_reads_other_records_costs_nothing_here() -> None:
    without = together(2.0, DELTA, [STEPS], 400)["training"]
    assert together(2.0, DELTA, [STEPS, COUNTS, Line("slices", "held-out", share=0.9)], 400)["training"] == without


def test_the_unit_is_the_ledgers() -> None:
    made = together(2.0, DELTA, [STEPS, COUNTS], 400, "subject")
    assert {release.unit for release in made.values()} == {"subject"}
    assert made["training"].noise_multiplier == together(2.0, DELTA, [STEPS], 400)["training"].noise_multiplier


def test_populations_are_what_is_read() -> None:
    assert STEPS.population(0.2, "b") == Population(0.2, 1.0, "b")
    assert COUNTS.population(0.2, "b") == Population(0.0, 0.2, "b")
    assert Line("v", "everyone").population(0.2, "b") == Line("v", "client").population(0.2, "b") == EVERYONE


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([Line("a", "everyone", share=0.9), Line("b", "training", share=0.9), STEPS], "nothing is left of epsilon for"),
        ([Line("a", "everyone", share=0.9), Line("b", "training", share=0.9)], "a and b cost epsilon .* together"),
        ([STEPS, Line("tuning", "training")], "both take all that is left"),
        ([Line("checks", "everyone"), COUNTS], "both take all that is left"),
        ([STEPS, STEPS], "one purpose"),
    ],
)
def test_budgets_that_do_not_add_up_are_refused(lines: list[Line], told: str) -> None:
    with pytest.raises(PlanInvalid, match=told):
        together(2.0, DELTA, lines, 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"reads": "somebody"},
        {"purpose": ""},
        {"purpose": "up\x1b[2J"},
        {"share": 0.0},
        {"share": 1.0},
        {"share": math.nan},
        {"rounds": 0},
        {"touched": 0},
        {"norm": 0.0},
        {"norm": math.inf},
        {"batch": 10},
        {"epochs": 1},
        {"batch": -1, "epochs": 1},
    ],
)
def test_lines_that_mean_nothing_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Line(**{"purpose": "a", "reads": "training", **fields})  # type: ignore[arg-type]


def test_the_noise_of_a_cohort_suffices_for_every_line_or_for_none() -> None:
    lines = [Line("training", "client", rounds=10), Line("evaluation", "client")]
    noise = calibrate(8.0, DELTA, 1.0, 11)
    made = by_clients(8.0, DELTA, lines, noise)
    assert made["training"] == Release("gaussian", noise, 1.0, 10, "client")
    with pytest.raises(PlanInvalid, match="costs more than epsilon 8"):
        by_clients(8.0, DELTA, [*lines, Line("statistics", "client")], noise)
    with pytest.raises(PlanInvalid, match="costs more"):
        by_clients(8.0, DELTA, [Line("training", "training", batch=9, epochs=1)], noise)


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 12.0])
def test_discrete_counts_cost_what_their_own_noise_says(epsilon: float) -> None:
    """Exact delta of a count with discrete Gaussian noise; as continuous noise it was up to four times the stated."""
    import numpy as np

    noise = together(epsilon, DELTA, [COUNTS], 1)["evaluation"].noise_multiplier

    def exact(noise: float) -> float:
        at = np.arange(-2000, 2001)
        mass = np.exp(-(at.astype(float) ** 2) / (2 * noise**2))
        mass /= mass.sum()
        return float(np.maximum(mass[1:] - np.exp(epsilon) * mass[:-1], 0).sum())

    assert exact(noise) <= DELTA
    assert exact(noise * 0.98) > DELTA * 0.9, "and no more noise than that"
