"""Record-level DP-SGD (Abadi et al. 2016) with Opacus's optimizer, and Poisson sampling on tensors.

Clipped sums of gradients come from the fastest way that is right for the model (privacy.gradients). Sampling and noise
come from `SecureNoise`, and the noisy sum is rounded to a lattice of a sixteenth of the noise's deviation in float64:
which outputs are possible does not depend on the data. An empty batch still adds noise and still counts; a record
whose gradient is not finite contributes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping

from privacy.gradients import ClippedGradients, Losses
from privacy.noise import Integers, SecureNoise
from privacy.parameters import trained_parameters
from privacy.plan import DPPlan
from privacy.sampling import sample

LATTICE = 16
"""Lattice cells per standard deviation of the noise."""


@dataclass(frozen=True)
class Optimisation:
    """The local optimizer, fresh each round: SGD, or Adam (Kingma and Ba 2015), whose own decay of the second moment
    is PyTorch's and whose first is `momentum`.

    proximal: strength mu of the pull mu/2 |w - w0|^2 back to the weights the round began with (FedProx, Li et al.
    2020). It depends on no record, so it is neither clipped nor noised.
    """

    learning_rate: float
    momentum: float
    proximal: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"

    def over(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, betas=(self.momentum, 0.999))
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)


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
    targets: torch.Tensor,
    losses: Losses,
    plan: DPPlan,
    optimisation: Optimisation,
    source: SecureNoise,
    examples: torch.Tensor,
    persons: Integers | None = None,
) -> None:
    """Take the plan's steps of one round on `model`, in place.

    features: float32 [rows, width], which the model maps to outputs [rows, k]; targets: float32 [rows].
    examples: made-up features, on which it is found out how its gradients are right. It was probed before.
    persons: rows of each person, who follow one another, where the plan protects persons.
    """
    base = optimisation.over(trained_parameters(model))
    model.train()
    anchor = Anchor(model, optimisation.proximal)
    if plan.unit not in ("record", "subject"):  # without privacy, or protected as a whole afterwards
        _train_plainly(model, features, targets, losses, plan, base, source, anchor)
        return
    gradients = ClippedGradients(model, plan.clipping_norm, examples)
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
            batch = torch.from_numpy(sample(len(features), plan.sampling_rate, source, persons))
            optimizer.zero_grad(set_to_none=True)
            gradients.clipped_sum(features[batch], targets[batch], losses)
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


def _train_plainly(
    model: torch.nn.Module,
    features: torch.Tensor,
    targets: torch.Tensor,
    losses: Losses,
    plan: DPPlan,
    optimizer: torch.optim.Optimizer,
    source: SecureNoise,
    anchor: Anchor,
) -> None:
    for _ in range(plan.steps_per_round):
        batch = torch.from_numpy(source.poisson_sample(len(features), plan.sampling_rate))
        if not len(batch):
            continue
        optimizer.zero_grad(set_to_none=True)
        losses(model(features[batch]), targets[batch]).mean().backward()  # type: ignore[no-untyped-call]
        anchor.pull()
        optimizer.step()
