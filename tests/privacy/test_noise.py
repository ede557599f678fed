"""Noise has the promised distribution and no seed."""

import numpy as np
import pytest
from scipy import stats

from privacy.noise import SecureNoise


def test_normal_and_uniform_have_their_distribution() -> None:
    source = SecureNoise()
    assert stats.kstest(source.normal(20_001), "norm").pvalue > 1e-4
    uniform = source.uniform(20_000)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert uniform.min() >= 0
    assert uniform.max() < 1


@pytest.mark.parametrize("scale", [0.7, 3.73, 40.0])
def test_discrete_gaussian_matches_its_mass_function(scale: float) -> None:
    draws = SecureNoise().discrete_gaussian(scale, 40_000)
    values = np.arange(-int(12 * scale) - 3, int(12 * scale) + 4)
    mass = np.exp(-(values**2) / (2 * scale**2))
    mass /= mass.sum()
    inside = np.abs(values) <= 2.5 * scale
    seen = np.array([(draws == value).sum() for value in values[inside]])
    expected = mass[inside] * len(draws)
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2.ppf(1 - 1e-5, df=inside.sum())


def test_poisson_batches_follow_the_binomial() -> None:
    source = SecureNoise()
    sizes = np.array([len(source.poisson_sample(1000, 0.1)) for _ in range(2000)])
    assert abs(sizes.mean() - 100) < 5 * np.sqrt(90 / 2000)
    assert 0.85 < sizes.var() / 90 < 1.15


def test_two_sources_are_independent() -> None:
    one, other = SecureNoise().normal(20_000), SecureNoise().normal(20_000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_no_draws() -> None:
    assert len(SecureNoise().discrete_gaussian(1.0, 0)) == 0
    assert len(SecureNoise().normal(0)) == 0
