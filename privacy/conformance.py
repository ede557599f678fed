"""Whether the training path of this installation does what its accounting assumes: tried, in milliseconds.

Accounting believes four things of a step: that noise of the stated size is added to every parameter, also where the
batch is empty; that one record moves the sum by at most the clipping norm; that each record enters by itself, with the
stated probability; and that randomness is never the same twice. A client tries them on the model it was asked to train,
before anything is charged: another version of a library, or a change made here, may have broken one of them. An audit
can only see what is grossly broken; this sees more, and proves nothing either.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import binom, chi2

from privacy.dpsgd import LATTICE, Optimisation, train_round
from privacy.errors import PathBroken
from privacy.gradients import Losses
from privacy.noise import Floats, Integers, SecureNoise
from privacy.parameters import flat, load_flat, trained_parameters
from privacy.plan import DPPlan
from privacy.sampling import sample

RARE = 1e-9
"""What happens by chance once in a thousand million tries is no chance."""
DRAWS = 40
"""Samples that are drawn to see whether they are Poisson samples."""
OFF = 2e-3
"""How much more than the clipping norm a sum may move: float32, and the lattice."""
NUMBERS = 8
"""That are drawn of every tensor, at least: of fewer a missing noise could not be told from a small one."""
BATCH = 8
"""What the sum of a step is divided by here. It is the same for signal and noise, so any number shows both."""
_SEEN = 1_000_000
"""Parameters of a tensor whose noise is looked at."""
_QUIET = 1e-6
"""A noise multiplier whose lattice is so fine that it hides nothing."""
_LOUD = (1.0, 1e4, math.inf)
"""What the loss of a record is multiplied by, to see how it is clipped."""
_STEP = Optimisation(learning_rate=1.0, momentum=0.0)


class _Nobody(SecureNoise):
    """Every batch is empty."""

    def poisson_sample(self, population: int, rate: float) -> Integers:
        return np.zeros(0, dtype=np.int64)


class _Everybody(SecureNoise):
    """Every record is in every batch, and there is no noise."""

    def poisson_sample(self, population: int, rate: float) -> Integers:
        return np.arange(population)

    def normal(self, count: int) -> Floats:
        return np.zeros(count)


def conform(
    model: torch.nn.Module, losses: Losses, plan: DPPlan, examples: torch.Tensor, targets: torch.Tensor
) -> None:
    """Raise PathBroken unless a step of the real training path on `model` does what the plan is accounted for. The
    model is left as it was.

    plan: at record or subject level. examples: made-up features [rows, width], at least three; targets [rows].
    """
    begun = flat(model)
    one = replace(plan, steps_per_round=1, rounds=1, expected_batch=BATCH)
    try:
        _noise_is_added(model, losses, one, examples, targets)
        load_flat(model, begun)
        _one_record_is_bounded(model, losses, one, examples, targets)
    finally:
        load_flat(model, begun)
    _samples_are_poisson(plan)


def _noise_is_added(
    model: torch.nn.Module, losses: Losses, plan: DPPlan, examples: torch.Tensor, targets: torch.Tensor
) -> None:
    """A step on an empty batch is pure noise of the right size in each tensor, and another one each time."""
    begun, moves = flat(model), []
    smallest = min(p.numel() for p in trained_parameters(model))
    for _ in range(max(2, math.ceil(NUMBERS / smallest))):
        load_flat(model, begun)
        moves.append(_moved(model, losses, plan, examples, targets, _Nobody()))
    deviation = plan.noise_multiplier * plan.clipping_norm / plan.expected_batch
    at = 0
    for p in trained_parameters(model):
        here = slice(at, at + p.numel(), math.ceil(p.numel() / _SEEN))
        at += p.numel()
        squares = sum(float(np.square(move[here] / deviation).sum()) for move in moves)
        degrees = len(moves) * len(moves[0][here])
        # Noise is on a lattice: where there are few numbers, all of them are zero far more often than a Gaussian is.
        most = (math.sqrt(squares) + math.sqrt(degrees) / (2 * LATTICE)) ** 2
        if min(chi2.cdf(most, degrees), chi2.sf(squares, degrees)) < RARE:
            raise _broken("the noise of a step is not of the size that is accounted for, in every parameter")
    if all(np.array_equal(moves[0], move) for move in moves[1:]):
        raise _broken("the noise of two steps is the same")


def _one_record_is_bounded(
    model: torch.nn.Module, losses: Losses, plan: DPPlan, examples: torch.Tensor, targets: torch.Tensor
) -> None:
    begun, quiet, count = flat(model), replace(plan, noise_multiplier=_QUIET), len(examples)
    numbers = torch.arange(count, dtype=torch.float32)

    def moved(loud: float, rows: int = count, seed: int = 0) -> Floats:
        """Of the first rows; the last of all has its loss multiplied. Which one a row is, its target says: losses may
        be asked of any part of them."""
        weights = torch.ones(count)
        weights[-1] = loud

        def weighed(outputs: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
            return losses(outputs, targets[which.long()]) * weights[which.long()]

        load_flat(model, begun)
        return _moved(model, weighed, quiet, examples[:rows], numbers[:rows], _Everybody(), seed)

    drops = not np.array_equal(moved(1.0), moved(1.0, seed=1))
    for loud in _LOUD:
        # What drops by chance draws as many numbers as there are rows: there the record stays, and is nothing.
        moves = [moved(loud), moved(math.nan) if drops else moved(loud, count - 1)]
        far = float(np.linalg.norm(moves[0] - moves[1])) * BATCH
        rounded = float(np.linalg.norm(begun)) * 1e-6 * BATCH  # weights are float32
        if not far <= plan.clipping_norm * (1 + OFF) + rounded:
            raise _broken("one record moves the sum of a step by more than the clipping norm")


def _samples_are_poisson(plan: DPPlan) -> None:
    """Their sizes are spread as those of independent records are, and no two of them are the same."""
    records = max(200, min(plan.examples, 2_000))
    persons = np.ones(records, dtype=np.int64) if plan.unit == "subject" else None
    drawn = [sample(records, plan.sampling_rate, SecureNoise(), persons) for _ in range(DRAWS)]
    sizes = np.array([len(rows) for rows in drawn])
    total, every = int(sizes.sum()), records * DRAWS
    if min(binom.cdf(total, every, plan.sampling_rate), binom.sf(total - 1, every, plan.sampling_rate)) < RARE:
        raise _broken("records enter a step more or less often than is accounted for")
    if plan.sampling_rate >= 1:
        return
    spread = float(np.square(sizes - records * plan.sampling_rate).sum())
    variance = records * plan.sampling_rate * (1 - plan.sampling_rate)
    if variance > 10 and chi2.cdf(spread / variance, DRAWS) < RARE:
        raise _broken("the samples of steps are all of one size: they are not Poisson samples")
    if any(map(np.array_equal, drawn, drawn[1:])) and variance > 30:
        raise _broken("the samples of two steps are the same")


def _moved(
    model: torch.nn.Module,
    losses: Losses,
    plan: DPPlan,
    features: torch.Tensor,
    targets: torch.Tensor,
    source: SecureNoise,
    seed: int = 0,
) -> Floats:
    """How far one step moves the weights. seed: of what a model drops by chance."""
    before = flat(model).astype(np.float64)
    persons = np.ones(len(features), dtype=np.int64) if plan.unit == "subject" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train_round(model, features, targets, losses, plan, _STEP, source, features[:3], persons)
    return np.asarray(flat(model).astype(np.float64) - before)


def _broken(what: str) -> PathBroken:
    return PathBroken(
        what, remedy="Install the dependencies in the versions of constraints.txt, and report it.", travels=True
    )
