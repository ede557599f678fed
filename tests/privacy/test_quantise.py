"""Layouts keep sums exact; quantised means are unbiased and within half a level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import PlanInvalid, SumRejected
from privacy.layout import MODULUS, Layout
from privacy.quantise import Quantiser
from privacy.stream import Words


def keys(count: int, start: int = 0) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(start, start + count)]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40_000))
def test_every_layout_is_exact_for_its_cohort(cohort: int) -> None:
    layout = Layout.for_cohort(cohort)
    assert layout.exact
    assert cohort * (layout.levels - 1) < 2**layout.width
    assert cohort * (layout.check_prime - 1) < layout.plain_modulus
    assert 2 * cohort * layout.largest_integer < layout.plain_modulus
    assert (MODULUS - 1) % layout.plain_modulus == 0


@pytest.mark.parametrize(("cohort", "lanes", "width"), [(5, 2, 20), (38, 2, 20), (39, 2, 19), (156, 1, 36)])
def test_the_densest_layout_that_is_exact_is_taken(cohort: int, lanes: int, width: int) -> None:
    layout = Layout.for_cohort(cohort)
    assert (layout.lanes, layout.width) == (lanes, width)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 400), st.floats(0.01, 100), st.integers(1, 50))
def test_means_are_within_half_a_level(cohort: int, bound: float, count: int) -> None:
    quantiser = Quantiser(bound, Layout.for_cohort(cohort))
    exact = np.random.default_rng(count).uniform(-1.2 * bound, 1.2 * bound, (cohort, count))
    total: Words = sum(
        (quantiser.encode(row, key) for row, key in zip(exact, keys(cohort), strict=True)),
        np.zeros(quantiser.layout.coefficients(count), dtype=np.uint64),
    )
    summed = quantiser.decode_sum(total, keys(cohort), count)
    error = np.abs(summed - np.clip(exact, -bound, bound).sum(axis=0)).max() / cohort
    assert error <= quantiser.resolution * (0.5 + 1e-4) + 1e-9 * bound


def test_five_clients_at_two_lanes_of_twenty_bits_lose_less_than_five_millionths() -> None:
    quantiser = Quantiser(1.0, Layout.for_cohort(5))
    exact = np.random.default_rng(0).uniform(-1, 1, (5, 200_000))
    total = sum(quantiser.encode(row, key) for row, key in zip(exact, keys(5), strict=True))
    mean = quantiser.decode_sum(np.asarray(total), keys(5), 200_000) / 5
    assert np.abs(mean - exact.mean(axis=0)).max() < 5e-6


def test_rounding_is_unbiased_whatever_the_value() -> None:
    quantiser = Quantiser(1.0, Layout.for_cohort(128))
    for part in (0.0, 0.3, 0.5, 0.99):
        value = np.full(60_000, part * quantiser.resolution)
        (key,) = keys(1, 77)
        error = quantiser.decode_sum(quantiser.encode(value, key), [key], len(value)) - value
        assert error.mean() == pytest.approx(0, abs=5 * quantiser.resolution / np.sqrt(12 * len(value)))
        assert error.std() == pytest.approx(quantiser.resolution / np.sqrt(12), rel=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_updates_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(PlanInvalid, match="not finite"):
        Quantiser(1.0, Layout.for_cohort(7)).encode(np.array([0.0, bad]), bytes(32))


def test_a_lane_above_what_clients_can_add_up_to_is_refused() -> None:
    quantiser = Quantiser(1.0, Layout.for_cohort(5))
    with pytest.raises(SumRejected, match="out of range"):
        quantiser.decode_sum(np.array([2**20 - 1], dtype=np.uint64), keys(2), 1)
