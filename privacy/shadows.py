"""Membership inference on a replica of a job: how well can be told which records a model was trained on?

The likelihood ratio attack (Carlini et al. 2022, arXiv 2112.03570), offline in neither half: many shadow models are
trained by the real path, each on about half of the same records; for each record the losses of the models that saw it
and of those that did not are two normal distributions, and the attacker says how much more likely a model's loss is
under the first. Each shadow model is judged by all the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from privacy.dpsgd import Optimisation, train_round
from privacy.gradients import Losses
from privacy.noise import Floats, SecureNoise
from privacy.plan import DPPlan

Flags = npt.NDArray[np.bool_]

STRICT = 0.01
"""The false positive rate at which an attacker is asked for what it finds."""


@dataclass(frozen=True)
class Inference:
    """What the attacker reached. auc: area under its ROC curve, 0.5 by chance, with one standard error. found: of the
    members, which part at a false positive rate of STRICT, and its error."""

    shadows: int
    records: int
    auc: float
    auc_error: float
    found: float
    found_error: float


def infer(
    fresh: Callable[[], nn.Module],
    losses: Losses,
    plan: DPPlan,
    optimisation: Optimisation,
    features: torch.Tensor,
    targets: torch.Tensor,
    shadows: int,
    source: SecureNoise,
) -> Inference:
    """Train `shadows` models as the job does and attack each with the rest.

    fresh: the model as a run begins with it. features [rows, width] and targets [rows]: made-up records.
    """
    seen = source.uniform(shadows * len(features)).reshape(shadows, len(features)) < 0.5
    told = np.stack([_told(fresh(), losses, plan, optimisation, features, targets, row, source) for row in seen])
    scores = np.stack([_ratios(told, seen, victim) for victim in range(shadows)])
    members, others = scores[seen], scores[~seen]
    each = np.array([_auc(row[flags], row[~flags]) for row, flags in zip(scores, seen, strict=True)])
    bar = np.quantile(others, 1 - STRICT)
    found = np.array([(row[flags] > bar).mean() for row, flags in zip(scores, seen, strict=True)])
    return Inference(
        shadows=shadows,
        records=len(features),
        auc=_auc(members, others),
        auc_error=float(each.std(ddof=1) / math.sqrt(shadows)),
        found=float((members > bar).mean()),
        found_error=float(found.std(ddof=1) / math.sqrt(shadows)),
    )


def _told(
    model: nn.Module,
    losses: Losses,
    plan: DPPlan,
    optimisation: Optimisation,
    features: torch.Tensor,
    targets: torch.Tensor,
    seen: Flags,
    source: SecureNoise,
) -> Floats:
    """What a model says of each record after it was trained on those that are `seen`: minus the loss."""
    mine = torch.from_numpy(np.flatnonzero(seen))
    persons = np.ones(len(mine), dtype=np.int64) if plan.unit == "subject" else None
    for _ in range(plan.rounds):
        train_round(model, features[mine], targets[mine], losses, plan, optimisation, source, features[:5], persons)
    model.eval()
    with torch.no_grad():
        told: Floats = -losses(model(features), targets).double().numpy()
    return told


def _ratios(told: Floats, seen: Flags, victim: int) -> Floats:
    """How much more likely each record's loss is if the victim saw it: log-likelihood ratio, in [records]."""
    rest = np.arange(len(told)) != victim
    mean_in, spread_in = _spread(told[rest], seen[rest])
    mean_out, spread_out = _spread(told[rest], ~seen[rest])
    far_in, far_out = (told[victim] - mean_in) / spread_in, (told[victim] - mean_out) / spread_out
    return np.asarray((far_out**2 - far_in**2) / 2 + math.log(spread_out / spread_in))


def _spread(told: Floats, which: Flags) -> tuple[Floats, float]:
    """Mean [records] of what the models that are `which` say of each, and one deviation for all records: some tens of
    models know the mean of a record, not its variance. A record that no model speaks of has everybody's mean."""
    count = which.sum(axis=0)
    mean = np.where(count > 0, (told * which).sum(axis=0) / np.maximum(count, 1), told.mean(axis=0))
    squares = ((told - mean) ** 2 * which).sum()
    return mean, math.sqrt(squares / max(1, int((count - 1).clip(0).sum()))) + 1e-12


def _auc(members: Floats, others: Floats) -> float:
    """How often a member scores above another, ties half."""
    every = np.concatenate([members, others])
    _, first, counts = np.unique(every, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[first]
    wins = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(wins / (len(members) * len(others)))
