"""What the real training path has to do for its accounting to be true. Each check fails by assertion.

They are run as they are, and once more with each bug that was seen in the field, which they have to catch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import privacy.dpsgd
from privacy.dpsgd import LATTICE, Optimisation
from privacy.dpsgd import train_round as _train_round
from privacy.ledger import Budget, Ledger
from privacy.noise import SecureNoise
from privacy.parameters import flat
from privacy.plan import DPPlan
from privacy.population import Population

STEP = Optimisation(learning_rate=1.0, momentum=0.0)
WIDTH = 5


class Nobody(SecureNoise):
    """Every batch is empty."""

    def poisson_sample(self, population: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.zeros(0, dtype=np.int64)


class Everybody(SecureNoise):
    """Every record is in every batch, and there is no noise: two data sets under the same randomness."""

    def poisson_sample(self, population: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.arange(population)

    def normal(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.zeros(count)


def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def plan(noise: float = 2.0, steps: int = 1, clip: float = 0.5, batch: int = 16) -> DPPlan:
    return DPPlan("record", 64, batch / 64, batch, steps, 1, clip, noise, 1.0, 1e-5)


def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each record."""
    return torch.nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets, reduction="none")


def train_round(
    model: torch.nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    using: DPPlan,
    optimisation: Optimisation,
    source: SecureNoise,
) -> None:
    """The real one, for records of two classes."""
    _train_round(model, features, labels, losses, using, optimisation, source, torch.rand(5, WIDTH))


def moved(features: torch.Tensor, labels: torch.Tensor, using: DPPlan, source: SecureNoise) -> torch.Tensor:
    """How far one round of the real training path moves the weights, float64."""
    model = network()
    before = torch.from_numpy(flat(model))
    train_round(model, features, labels, using, STEP, source)
    return (torch.from_numpy(flat(model)) - before).double()


def noise_is_right() -> None:
    """On empty batches a round is pure noise: right in every coordinate, on the lattice, and once for each step."""
    features, labels = torch.zeros(4, WIDTH), torch.zeros(4)
    expected = 2.0 * 0.5 / 16  # sigma * C / expected batch, times a learning rate of one
    for steps in (1, 4):
        noise = torch.stack([moved(features, labels, plan(steps=steps), Nobody()) for _ in range(300)])
        deviation = noise.std(dim=0) / (expected * steps**0.5)
        assert deviation.min() > 0.8
        assert deviation.max() < 1.2
        assert deviation.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.02)
        assert abs(noise.mean().item()) < 0.04 * expected * steps**0.5, "five deviations of the mean"
        if steps == 1:
            cells = noise / (expected / LATTICE)
            assert (cells - cells.round()).abs().max() < 1e-3, "the noisy sum lies on the lattice"


def noise_is_fresh() -> None:
    """No correlation between steps, rounds or clients: every source has a key of its own."""
    features, labels = torch.zeros(4, WIDTH), torch.zeros(4)
    drawn = torch.stack([moved(features, labels, plan(), Nobody()) for _ in range(200)]).numpy()
    assert abs(np.corrcoef(drawn[:100].reshape(-1), drawn[100:].reshape(-1))[0, 1]) < 0.05
    assert len({row.tobytes() for row in drawn}) == len(drawn)
    source = Nobody()
    first, second = (moved(features, labels, plan(), source) for _ in range(2))
    assert not torch.equal(first, second)


def one_record_moves_at_most_the_clipping_norm() -> None:
    """Neighbouring data sets with the same randomness, for ordinary, zero, huge, infinite and NaN records."""
    generator = torch.Generator().manual_seed(3)
    using = plan(noise=1e-6)
    features, labels = torch.rand(16, WIDTH, generator=generator), torch.zeros(16)
    extremes = [0.0, 1.0, -1.0, 1e3, 1e6, -1e6, 1e19, 1e38, float("inf"), float("-inf"), float("nan")]
    records = [torch.full((1, WIDTH), value) for value in extremes]
    records += [torch.randn(1, WIDTH, generator=generator) * 3 for _ in range(10)]
    without = moved(features, labels, using, Everybody()) * using.expected_batch
    for record in records:
        for label in (0.0, 1.0):
            more = torch.cat([features, record]), torch.cat([labels, torch.tensor([label])])
            difference = moved(*more, using, Everybody()) * using.expected_batch - without
            assert torch.isfinite(difference).all()
            assert torch.linalg.vector_norm(difference) <= using.clipping_norm * 1.001


def batches_are_poisson(record_sizes: Callable[[], list[int]]) -> None:
    """Sizes follow Binomial(N, q): mean, variance, and independence of one step from the next."""
    sizes = np.array(record_sizes())
    n, q = 400, 0.1
    assert len(sizes) == 2000
    error = np.sqrt(n * q * (1 - q) / len(sizes))
    assert abs(sizes.mean() - n * q) < 5 * error
    assert 0.8 < sizes.var() / (n * q * (1 - q)) < 1.25
    assert abs(np.corrcoef(sizes[:-1], sizes[1:])[0, 1]) < 0.12
    probabilities = _binomial(n, q)
    edges = np.searchsorted(np.cumsum(probabilities), np.linspace(0.1, 0.9, 9))
    observed = np.bincount(np.searchsorted(edges, sizes), minlength=10)
    expected = len(sizes) * np.diff(np.concatenate([[0.0], np.cumsum(probabilities)[edges], [1.0]]))
    assert ((observed - expected) ** 2 / expected).sum() < 33.7, "chi-squared, 9 degrees of freedom, p = 1e-4"


def _binomial(n: int, q: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ratios = [(n - k) / (k + 1) * q / (1 - q) for k in range(n)]
    return np.asarray((1 - q) ** n * np.cumprod([1.0, *ratios]))


def sizes_of_real_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Runs two thousand steps of the real path and says how many records each batch had; what their gradients are does
    not matter here."""
    seen: list[int] = []

    def counted(self: privacy.dpsgd.ClippedGradients, features: torch.Tensor, *rest: object) -> None:
        seen.append(len(features))
        for p in self._trained:
            p.grad = torch.zeros_like(p)

    def run() -> list[int]:
        monkeypatch.setattr(privacy.dpsgd.ClippedGradients, "clipped_sum", counted)
        using = DPPlan("record", 400, 0.1, 40, 2000, 1, 0.5, 2.0, 1.0, 1e-5)
        train_round(network(), torch.zeros(400, WIDTH), torch.zeros(400), using, STEP, SecureNoise())
        return seen

    return run


def ten_rounds_cost_ten_rounds(folder: Path) -> None:
    """With a restart between any two. What an engine rebuilt each round prints for ever is 2.87."""
    using = DPPlan.record_level(
        epsilon=7.0, delta=1e-5, examples=600, expected_batch=60, epochs=1, rounds=10, clipping_norm=1
    )
    path = folder / "ledger.jsonl"
    Ledger(path, Budget(100.0, 1e-5)).create()
    for number in range(10):
        Ledger(path, Budget(100.0, 1e-5)).reserve(f"e/train/{number}", [using.round()], Population(0.2, 1.0, "b"))
    assert 6.9 < Ledger(path, Budget(100.0, 1e-5)).spent() <= 7.0
