"""Record-level DP-SGD (Abadi et al. 2016) on Opacus's ghost clipping, with Poisson sampling on tensors.

Opacus computes the per-sample gradient norms and the clipped sum; sampling and noise come from `SecureNoise`, and
the noisy sum is rounded to a lattice of a sixteenth of the noise's deviation in float64, so that which outputs are
possible does not depend on the data. An empty batch still adds noise and still counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from opacus.validators import ModuleValidator

from privacy.errors import PlanInvalid
from privacy.noise import SecureNoise
from privacy.plan import DPPlan

LATTICE = 16
"""Lattice cells per standard deviation of the noise."""


@dataclass(frozen=True)
class Optimisation:
    """What the local optimizer is: plain SGD."""

    learning_rate: float
    momentum: float


class _LatticeOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus's optimizer with its noise replaced by float64 CSPRNG noise on a lattice."""

    def __init__(self, *args: Any, source: SecureNoise, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = source

    def add_noise(self) -> None:
        deviation = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            total = p.summed_grad.double()
            noise = torch.from_numpy(self._source.normal(p.numel())).view_as(p)
            cell = deviation / LATTICE
            p.grad = (torch.round((total + noise * deviation) / cell) * cell).to(p.dtype)
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
    loss = torch.nn.BCEWithLogitsLoss(reduction="mean")
    model.train()
    if plan.unit == "none":
        _train_plainly(model, features, labels, plan, base, loss, source)
        return
    wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=plan.clipping_norm, loss_reduction="mean")
    optimizer = _LatticeOptimizer(
        base,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.clipping_norm,
        expected_batch_size=plan.expected_batch,
        loss_reduction="mean",
        source=source,
    )
    criterion = DPLossFastGradientClipping(wrapped, optimizer, loss, loss_reduction="mean")
    try:
        for _ in range(plan.steps_per_round):
            batch = torch.from_numpy(source.poisson_sample(len(features), plan.sampling_rate))
            optimizer.zero_grad(set_to_none=True)
            if len(batch):
                criterion(wrapped(features[batch]).squeeze(1), labels[batch]).backward()
            else:
                for p in optimizer.params:
                    p.grad = torch.zeros_like(p)
            optimizer.step()
    finally:
        optimizer.zero_grad(set_to_none=True)
        wrapped.remove_hooks()


def _train_plainly(
    model: torch.nn.Module,
    features: torch.Tensor,
    labels: torch.Tensor,
    plan: DPPlan,
    optimizer: torch.optim.Optimizer,
    loss: torch.nn.Module,
    source: SecureNoise,
) -> None:
    for _ in range(plan.steps_per_round):
        batch = torch.from_numpy(source.poisson_sample(len(features), plan.sampling_rate))
        if not len(batch):
            continue
        optimizer.zero_grad(set_to_none=True)
        loss(model(features[batch]).squeeze(1), labels[batch]).backward()
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
