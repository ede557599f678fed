"""The real training path: what it adds, what it clips, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from privacy.dpsgd import LATTICE, Optimisation, check_trainable, flat, load_flat, train_round
from privacy.errors import PlanInvalid
from privacy.noise import SecureNoise
from privacy.plan import DPPlan

STEP = Optimisation(learning_rate=1.0, momentum=0.0)


class Quiet(SecureNoise):
    """Everyone is sampled; no noise. For comparing two data sets under the same randomness."""

    def poisson_sample(self, population: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.arange(population)

    def normal(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.zeros(count)


class Nobody(SecureNoise):
    """Every batch is empty."""

    def poisson_sample(self, population: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.zeros(0, dtype=np.int64)


def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def plan(noise: float = 2.0, steps: int = 1, clip: float = 0.5, batch: int = 16) -> DPPlan:
    return DPPlan("record", 64, batch / 64, batch, steps, 1, clip, noise, 1.0, 1e-5)


def moved(features: torch.Tensor, labels: torch.Tensor, using: DPPlan, source: SecureNoise) -> torch.Tensor:
    model = network()
    before = torch.from_numpy(flat(model))
    train_round(model, features, labels, using, STEP, source)
    return torch.from_numpy(flat(model)) - before


def test_an_empty_batch_is_noise_of_the_right_deviation_in_every_coordinate() -> None:
    features, labels = torch.zeros(4, 5), torch.zeros(4)
    noise = torch.stack([moved(features, labels, plan(), Nobody()) for _ in range(400)]).double()
    expected = 2.0 * 0.5 / 16  # sigma * C / expected batch, times a learning rate of one
    deviation = noise.std(dim=0)
    assert (deviation / expected).min() > 0.8
    assert (deviation / expected).max() < 1.2
    assert (noise.std() / expected).item() == pytest.approx(1.0, abs=0.02)
    cells = noise / (expected / LATTICE)
    assert (cells - cells.round()).abs().max() < 1e-3, "the noisy sum lies on the lattice"


def test_noise_is_not_correlated_between_steps_or_clients() -> None:
    features, labels = torch.zeros(4, 5), torch.zeros(4)
    drawn = torch.stack([moved(features, labels, plan(), Nobody()) for _ in range(200)]).double().numpy()
    correlation = np.corrcoef(drawn[:100].reshape(-1), drawn[100:].reshape(-1))[0, 1]
    assert abs(correlation) < 0.05


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_one_record_moves_the_sum_by_at_most_the_clipping_norm(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    features, labels = torch.rand(16, 5, generator=generator), torch.ones(16)
    labels[:8] = 0
    using = plan(noise=1e-6)
    with_all = moved(features, labels, using, Quiet()) * using.expected_batch
    extra = torch.cat([features, scale * torch.ones(1, 5)]), torch.cat([labels, torch.ones(1)])
    with_one_more = moved(*extra, using, Quiet()) * using.expected_batch
    assert torch.linalg.vector_norm(with_one_more - with_all) <= using.clipping_norm * 1.001


def test_the_sum_is_divided_by_the_expected_batch_not_the_actual_one() -> None:
    features, labels = torch.rand(8, 5), torch.ones(8)
    few = moved(features, labels, plan(noise=1e-6), Quiet())
    many = moved(features.repeat(2, 1), labels.repeat(2), plan(noise=1e-6), Quiet())
    assert torch.allclose(2 * few, many, atol=1e-5)


def test_clipped_gradients_equal_a_loop_over_records() -> None:
    generator = torch.Generator().manual_seed(5)
    features, labels = torch.rand(12, 5, generator=generator), (torch.rand(12, generator=generator) > 0.5).float()
    using = plan(noise=1e-6, clip=0.3)
    model = network()
    total = torch.zeros(sum(p.numel() for p in model.parameters()))
    for row, label in zip(features, labels, strict=True):
        model.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(row[None]).squeeze(1), label[None]).backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        total += gradient * min(1.0, 0.3 / (gradient.norm().item() + 1e-6))
    assert torch.allclose(moved(features, labels, using, Quiet()), -total / using.expected_batch, atol=1e-5)


def test_without_privacy_it_is_plain_sgd_and_learns() -> None:
    features = torch.rand(256, 5)
    labels = (features[:, 0] > 0.5).float()
    model = network()
    plain = DPPlan.non_private(examples=256, expected_batch=64, epochs=60, rounds=1)
    train_round(model, features, labels, plain, Optimisation(0.5, 0.9), SecureNoise())
    accuracy = ((model(features).squeeze(1) > 0) == labels.bool()).float().mean()
    assert accuracy > 0.9
    before = flat(model)
    train_round(model, features, labels, replace(plain, steps_per_round=2), STEP, Nobody())
    assert np.array_equal(flat(model), before)


def test_models_that_cannot_be_clipped_per_record_are_refused() -> None:
    with pytest.raises(PlanInvalid, match="mix records"):
        check_trainable(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))
    with pytest.raises(PlanInvalid, match="no trainable"):
        check_trainable(torch.nn.ReLU())


def test_flat_and_back() -> None:
    model, other = network(), network()
    load_flat(other, flat(model) * 2)
    assert np.array_equal(flat(other), flat(model) * 2)
