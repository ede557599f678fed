"""A replica of a job with canaries in it: the real training path, the real noise, and records that nobody has.

At record and subject level a canary is a record whose clipped gradient lies in a coordinate of its own, beside the
model that is trained: what DP-SGD releases of it is one number a step, and whoever sees all steps adds them up. It is
the attacker of the proof (Nasr et al. 2021, Dirac canaries), in one run. At client level a canary is a client whose
update is as large as the clipping norm; each is in one sum of its own, with the noise of the honest.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from privacy.audit import Flags
from privacy.dpsgd import Optimisation, train_round
from privacy.gradients import Losses
from privacy.layout import Layout
from privacy.noise import Floats, SecureNoise
from privacy.plan import DPPlan
from privacy.quantise import Quantiser
from privacy.shares import NoiseShares
from privacy.sums import noised_share

LOUD = 1e4
"""Gradient of a canary in its coordinate, before it is clipped: the rest of the model is nothing beside it."""
COORDINATES = 8
"""Of an update at client level."""


class Canaried(nn.Module):
    """A model, and one number for each canary, half of them before its parameters and half behind: what noises a part
    of the parameters only is seen. The last two columns of the features say which canary of each half a row is;
    `half`: none of it. The last column of the outputs is what its number adds to the loss."""

    def __init__(self, model: nn.Module, half: int) -> None:
        super().__init__()
        self.before, self.model, self.behind = _numbers(half), model, _numbers(half)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        said = self.model(features[:, :-2])
        numbers = self.before(features[:, -2].long()) + self.behind(features[:, -1].long())
        return torch.cat([said, LOUD * numbers], dim=1)

    def moved(self) -> list[Floats]:
        """How far the numbers of each half are from where they began."""
        return [np.asarray(numbers.weight.detach()[:-1, 0].double().numpy()) for numbers in (self.before, self.behind)]


def _numbers(half: int) -> nn.Embedding:
    made = nn.Embedding(half + 1, 1, padding_idx=half)
    nn.init.zeros_(made.weight)
    return made


def released_by_steps(
    model: nn.Module, losses: Losses, plan: DPPlan, examples: torch.Tensor, count: int
) -> list[tuple[Flags, Floats]]:
    """Of each half of `count` canaries: which were in, and what all steps of the job together release of each.

    examples: made-up features [rows, width]. The optimizer is plain SGD, whose path shows every step.
    """
    half = count // 2
    included = [SecureNoise().uniform(half) < 0.5 for _ in range(2)]
    canaried = Canaried(model, half)
    kept = [torch.from_numpy(np.flatnonzero(flags)).float() for flags in included]
    none = [torch.full((len(numbers),), float(half)) for numbers in kept]
    which = torch.cat([torch.stack([kept[0], none[0]], dim=1), torch.stack([none[1], kept[1]], dim=1)])
    features = torch.cat([torch.zeros(len(which), examples.shape[1]), which], dim=1)
    few = torch.arange(len(examples)).float()
    tried = torch.cat([examples, few.unsqueeze(1), few.unsqueeze(1)], dim=1)
    persons = np.ones(len(which), dtype=np.int64) if plan.unit == "subject" else None

    def both(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return losses(outputs[:, :-1], targets) + outputs[:, -1]

    targets = torch.zeros(len(which))
    optimisation = Optimisation(learning_rate=1.0, momentum=0.0)
    for _ in range(plan.rounds):
        train_round(canaried, features, targets, both, plan, optimisation, SecureNoise(), tried, persons)
    moved = canaried.moved()
    return [(flags, -far * plan.expected_batch) for flags, far in zip(included, moved, strict=True)]


def released_by_sums(shares: NoiseShares, count: int) -> tuple[Flags, Floats]:
    """Which of `count` clients were in the sum of one round that each was asked for, and what it released of each."""
    source = SecureNoise()
    included = source.uniform(count) < 0.5
    layout, scores = Layout.for_cohort(shares.cohort), np.zeros(count)
    canary = np.zeros(COORDINATES)
    canary[0] = 2 * shares.clipping_norm
    quantiser = Quantiser(shares.bound, layout)
    for number in range(count):
        updates = [np.zeros(COORDINATES)] * shares.honest
        if included[number]:
            updates[0] = canary
        for update in updates:
            dither = os.urandom(32)
            words = noised_share(update, shares, layout, dither, source)
            scores[number] += quantiser.decode_sum(words, [dither], COORDINATES + 1)[0]
    return included, scores
