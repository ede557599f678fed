"""The training path keeps what accounting assumes, and each known bug is caught when it is put in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import privacy.dpsgd
import privacy.noise
from privacy.gradients import ClippedGradients
from privacy.ledger import Ledger, Row
from privacy.noise import SecureNoise
from tests.privacy import conformance


def test_noise_is_right() -> None:
    conformance.noise_is_right()


def test_noise_is_fresh() -> None:
    conformance.noise_is_fresh()


def test_one_record_moves_the_sum_by_at_most_the_clipping_norm() -> None:
    conformance.one_record_moves_at_most_the_clipping_norm()


def test_batches_are_poisson(monkeypatch: pytest.MonkeyPatch) -> None:
    conformance.batches_are_poisson(conformance.sizes_of_real_batches(monkeypatch))


def test_ten_rounds_cost_ten_rounds(tmp_path: Path) -> None:
    conformance.ten_rounds_cost_ten_rounds(tmp_path)


# -- bugs seen in the field, put in on purpose --------------------------------------------------------------------
Optimizer = privacy.dpsgd._LatticeOptimizer


def noise_divided_by_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Optimizer.add_noise

    def add_noise(self: Any) -> None:
        self.noise_multiplier, kept = self.noise_multiplier / self.expected_batch_size, self.noise_multiplier
        real(self)
        self.noise_multiplier = kept

    monkeypatch.setattr(Optimizer, "add_noise", add_noise)


def noise_on_the_last_layer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Optimizer.add_noise

    def add_noise(self: Any) -> None:
        clean = [p.summed_grad.clone() for p in self.params]
        real(self)
        for p, without in list(zip(self.params, clean, strict=True))[:-2]:
            p.grad = without

    monkeypatch.setattr(Optimizer, "add_noise", add_noise)


def noise_without_a_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy.dpsgd, "LATTICE", 2**40)


def dropped_empty_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Optimizer.step

    def step(self: Any, closure: object = None) -> None:
        if any(p.grad.any() for p in self.params):
            real(self)

    monkeypatch.setattr(Optimizer, "step", step)


def repeated_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def seeded(self: SecureNoise) -> None:
        self._stream = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()

    monkeypatch.setattr(SecureNoise, "__init__", seeded)


def batch_level_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    def clipped_sum(self: Any, features: torch.Tensor, labels: torch.Tensor, losses: Any) -> None:
        self._slow._model.zero_grad()
        losses(self._slow._model(features), labels).sum().backward()
        torch.nn.utils.clip_grad_norm_(self._trained, self._slow._clipping_norm)

    monkeypatch.setattr(ClippedGradients, "clipped_sum", clipped_sum)


def no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ClippedGradients.__init__

    def unclipped(self: ClippedGradients, model: torch.nn.Module, clipping_norm: float, examples: torch.Tensor) -> None:
        real(self, model, 1e6, examples)

    monkeypatch.setattr(ClippedGradients, "__init__", unclipped)


def shuffled_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(self: SecureNoise, population: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.random.default_rng().permutation(population)[: round(rate * population)]

    monkeypatch.setattr(SecureNoise, "poisson_sample", batch)


def divided_by_the_actual_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ClippedGradients.clipped_sum

    def mean(self: ClippedGradients, features: torch.Tensor, labels: torch.Tensor, losses: Any) -> None:
        real(self, features, labels, losses)
        for p in self._trained:
            if p.grad is not None and len(features):
                p.grad *= 16 / len(features)

    monkeypatch.setattr(ClippedGradients, "clipped_sum", mean)


def engine_reset_per_round(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger._spent

    def last_only(self: Ledger, rows: Sequence[Row], accountant: Literal["pld", "rdp"] = "pld") -> float:
        return real(self, [row for row in rows if row.kind == "reserve"][-1:], accountant)

    monkeypatch.setattr(Ledger, "_spent", last_only)


Bug = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("bug", "check"),
    [
        (noise_divided_by_batch_size, conformance.noise_is_right),
        (noise_on_the_last_layer_only, conformance.noise_is_right),
        (noise_without_a_lattice, conformance.noise_is_right),
        (dropped_empty_batch, conformance.noise_is_right),
        (repeated_seed, conformance.noise_is_fresh),
        (batch_level_clipping, conformance.one_record_moves_at_most_the_clipping_norm),
        (no_clipping, conformance.one_record_moves_at_most_the_clipping_norm),
        (divided_by_the_actual_batch, conformance.one_record_moves_at_most_the_clipping_norm),
    ],
)
def test_a_known_bug_of_the_engine_is_caught(
    bug: Bug, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_shuffled_instead_of_poisson_batches_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled_loader(monkeypatch)
    with pytest.raises(AssertionError):
        conformance.batches_are_poisson(conformance.sizes_of_real_batches(monkeypatch))


def test_an_engine_that_forgets_earlier_rounds_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_reset_per_round(monkeypatch)
    with pytest.raises(AssertionError):
        conformance.ten_rounds_cost_ten_rounds(tmp_path)
