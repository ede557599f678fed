"""The real training path: what it adds, what it clips, what it refuses."""

from dataclasses import replace

import numpy as np
import torch

from privacy.dpsgd import Optimisation
from privacy.noise import SecureNoise
from privacy.parameters import flat, load_flat
from privacy.plan import DPPlan
from tests.privacy.conformance import STEP, Everybody, Nobody, moved, network, plan, train_round


def test_the_sum_is_divided_by_the_expected_batch_not_the_actual_one() -> None:
    features, labels = torch.rand(8, 5), torch.ones(8)
    few = moved(features, labels, plan(noise=1e-6), Everybody())
    many = moved(features.repeat(2, 1), labels.repeat(2), plan(noise=1e-6), Everybody())
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
    assert torch.allclose(
        moved(features, labels, using, Everybody()), -total.double() / using.expected_batch, atol=1e-5
    )


def test_fedprox_pulls_back_to_where_the_round_began() -> None:
    """On empty batches there is only noise: the pull undoes a share of every earlier step."""
    features, labels = torch.zeros(4, 5), torch.zeros(4)
    far = []
    for strength in (0.0, 1.0):
        model = network()
        begun = flat(model)
        train_round(model, features, labels, plan(steps=200), Optimisation(0.5, 0.0, strength), Nobody())
        far.append(np.linalg.norm(flat(model) - begun))
    assert far[1] < 0.3 * far[0]


def test_fedprox_moves_no_further_for_one_record() -> None:
    """The pull depends on no record: with it or without, one record more adds the same clipped gradient."""
    generator = torch.Generator().manual_seed(3)
    features, labels = torch.rand(17, 5, generator=generator), torch.ones(17)
    using, differences = plan(noise=1e-6), []
    for strength in (0.0, 2.0):
        ends = []
        for rows in (16, 17):
            model = network()
            train_round(model, features[:rows], labels[:rows], using, Optimisation(1.0, 0.0, strength), Everybody())
            ends.append(flat(model))
        differences.append(ends[1] - ends[0])
    assert np.allclose(*differences, atol=1e-6)


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


def test_flat_and_back() -> None:
    model, other = network(), network()
    load_flat(other, flat(model) * 2)
    assert np.array_equal(flat(other), flat(model) * 2)
