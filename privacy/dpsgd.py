"""Record-level DP-SGD (Abadi et al. 2016) with Opacus's optimizer, and Poisson sampling on tensors.

Clipped sums of gradients come from one backward pass where the layers allow it (privacy.bookkeeping), else from
Opacus's per-sample gradients. Sampling and noise come from `SecureNoise`, and the noisy sum is rounded to a
lattice of a sixteenth of the noise's deviation in float64, so that which outputs are possible does not depend on
the data. An empty batch still adds noise and still counts; a record whose gradient is not finite contributes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.validators import ModuleValidator

from privacy.bookkeeping import Bookkeeper, LayerReused
from privacy.errors import PlanInvalid
from privacy.noise import SecureNoise
from privacy.plan import DPPlan

LATTICE = 16
"""Lattice cells per standard deviation of the noise."""


@dataclass(frozen=True)
class Optimisation:
    """What the local optimizer is: plain SGD.

    proximal: strength mu of the pull mu/2 |w - w0|^2 back to the weights the round began with (FedProx, Li et al.
    2020). It depends on no record, so it is neither clipped nor noised.
    """

    learning_rate: float
    momentum: float
    proximal: float = 0.0


class _LatticeOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus's optimizer with its noise replaced by float64 CSPRNG noise on a lattice."""

    def __init__(self, *args: Any, source: SecureNoise, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = source

    def accumulate(self) -> None:
        """One batch is one step: the clipped sum is taken as it is, without Opacus's copy."""
        for p in self.params:
            p.summed_grad = p.grad

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        cell = deviation / LATTICE
        total = torch.cat([p.summed_grad.flatten() for p in self.params]).double()
        total.add_(torch.from_numpy(self._source.normal(len(total))), alpha=deviation)
        total.div_(cell).round_().mul_(cell)
        for p, noisy in zip(self.params, torch.split(total, [p.numel() for p in self.params]), strict=True):
            p.grad = noisy.view_as(p).to(p.dtype)
            p.summed_grad._processed = True


def train_round(
    model: torch.nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    plan: DPPlan,
    optimisation: Optimisation,
    source: SecureNoise,
) -> None:
    """Take the plan's steps of one round on `model`, in place.

    features: float32 [rows, width]; labels: float32 [rows] of 0 and 1; the model maps features to logits [rows, 1].
    Raises PlanInvalid if the model cannot be trained per sample (BatchNorm) or has nothing to train.
    """
    check_trainable(model)
    base = torch.optim.SGD(model.parameters(), lr=optimisation.learning_rate, momentum=optimisation.momentum)
    model.train()
    anchor = Anchor(model, optimisation.proximal)
    if plan.unit != "record":  # without privacy, or protected as a whole afterwards
        _train_plainly(model, features, labels, plan, base, source, anchor)
        return
    gradients = ClippedGradients(model, plan.clipping_norm)
    each = torch.nn.BCEWithLogitsLoss(reduction="none")
    optimizer = _LatticeOptimizer(
        base,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.clipping_norm,
        expected_batch_size=plan.expected_batch,
        loss_reduction="mean",
        source=source,
    )
    optimizer.attach_step_hook(lambda _: anchor.pull())
    try:
        for _ in range(plan.steps_per_round):
            batch = torch.from_numpy(source.poisson_sample(len(features), plan.sampling_rate))
            optimizer.zero_grad(set_to_none=True)
            gradients.clipped_sum(features[batch], labels[batch], each)
            optimizer.step()
    finally:
        gradients.close()
        optimizer.zero_grad(set_to_none=True)


class Anchor:
    """The weights a round began with, and the pull back to them."""

    def __init__(self, model: torch.nn.Module, strength: float) -> None:
        self._strength = strength
        self._begun = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad] if strength else []

    def pull(self) -> None:
        """Add the gradient of the proximal term."""
        for p, begun in self._begun:
            if p.grad is not None:
                p.grad.add_(p.detach() - begun, alpha=self._strength)


class ClippedGradients:
    """The sum over a batch of each record's gradient, clipped: the fastest way that is right for the model."""

    def __init__(self, model: torch.nn.Module, clipping_norm: float) -> None:
        self._model, self._clipping_norm = model, clipping_norm
        self._bookkeeper = Bookkeeper(model, clipping_norm) if Bookkeeper.supports(model) else None

    def clipped_sum(self, features: torch.Tensor, labels: torch.Tensor, loss: torch.nn.Module) -> None:
        """Set every trained parameter's `grad`; zeros for an empty batch. loss: with reduction `none`."""
        if not len(features):
            for p in self._model.parameters():
                p.grad = torch.zeros_like(p) if p.requires_grad else None
            return
        if self._bookkeeper:
            try:
                self._bookkeeper.clipped_sum(features, labels, loss)
                return
            except LayerReused:
                self.close()
                self._bookkeeper = None
        self._per_sample(features, labels, loss)

    def close(self) -> None:
        """Leave the model as it was found."""
        if self._bookkeeper:
            self._bookkeeper.close()

    def _per_sample(self, features: torch.Tensor, labels: torch.Tensor, loss: torch.nn.Module) -> None:
        wrapped = GradSampleModule(self._model, loss_reduction="sum")
        try:
            loss(wrapped(features).squeeze(1), labels).sum().backward()
            trained = [p for p in self._model.parameters() if p.requires_grad]
            samples: list[torch.Tensor | None] = [getattr(p, "grad_sample", None) for p in trained]
            squares = sum(each.flatten(1).square().sum(1) for each in samples if each is not None)
            norms = torch.as_tensor(squares).sqrt()
            finite = torch.isfinite(norms)
            factors = (self._clipping_norm / (norms[finite] + 1e-6)).clamp(max=1.0)
            for p, each in zip(trained, samples, strict=True):
                p.grad = torch.zeros_like(p) if each is None else torch.einsum("i,i...", factors, each[finite])
        finally:
            for p in self._model.parameters():
                p.grad_sample = None  # type: ignore[attr-defined]  # Opacus keeps it alive in cycles
            wrapped.to_standard_module()


def _train_plainly(
    model: torch.nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    plan: DPPlan,
    optimizer: torch.optim.Optimizer,
    source: SecureNoise,
    anchor: Anchor,
) -> None:
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(plan.steps_per_round):
        batch = torch.from_numpy(source.poisson_sample(len(features), plan.sampling_rate))
        if not len(batch):
            continue
        optimizer.zero_grad(set_to_none=True)
        loss(model(features[batch]).squeeze(1), labels[batch]).backward()
        anchor.pull()
        optimizer.step()


def check_trainable(model: torch.nn.Module) -> None:
    """Raise PlanInvalid for a model on which per-sample clipping means nothing."""
    if not any(p.requires_grad for p in model.parameters()):
        raise PlanInvalid("the model has no trainable parameter", travels=True)
    if problems := ModuleValidator.validate(model, strict=False):
        raise PlanInvalid(
            f"the model has layers that mix records: {problems[0]}",
            remedy="Replace BatchNorm by GroupNorm or LayerNorm.",
            travels=True,
        )


def flat(model: torch.nn.Module) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All parameters as one float32 vector, in the order of `model.parameters()`."""
    with torch.no_grad():
        return torch.cat([p.reshape(-1) for p in model.parameters()]).numpy().copy()


def load_flat(model: torch.nn.Module, weights: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """The reverse of `flat`."""
    with torch.no_grad():
        at = 0
        for p in model.parameters():
            p.copy_(torch.from_numpy(weights[at : at + p.numel()].reshape(tuple(p.shape)).copy()))
            at += p.numel()
