"""A federation in one process, without encryption, clients or anybody's data: what a training would learn of rows that
are nobody's, under the same plan, noise and optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.spending import Spending, training_rows
from pipeline.language.stepping import Moments, stepped
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.net import PROBED
from pipeline.learning.queries.query import Measured, Rows
from pipeline.tuning.rows import Examples
from privacy.dpsgd import Optimisation, train_round
from privacy.noise import SecureNoise
from privacy.parameters import flat
from privacy.plan import DPPlan
from privacy.shares import clipped

HELD_OUT = 0.25


def rehearse(config: Config, examples: Examples, told: Callable[[int, float], None]) -> Measured:
    """The headline of the task on rows that were held out, after all rounds; NaN where nothing finite was learned.

    told: is given each round and the headline after it, and may raise to end it. Raises PlanInvalid.
    """
    tuning, training, task = config.tuning, config.training, config.data.task
    draw = np.random.default_rng(tuning.seed)
    order = draw.permutation(len(examples.targets))
    held, parts = _divided(order, tuning.clients)
    plan = _plan(config)
    rounds = min(tuning.rounds or plan.rounds, plan.rounds)
    spec = FeatureSpec.of(config.data)
    net = config.model.net(spec.shape, task.outputs, training.seed)
    weights: np.ndarray[tuple[int], np.dtype[np.float32]] = net.initial()
    moments: Moments = ()
    score = Measured(math.nan, math.nan)
    for number in range(1, rounds + 1):
        rate = training.learning_rate * (1 - training.decay * (number - 1) / rounds)
        optimisation = Optimisation(rate, training.momentum, training.proximal, training.optimizer)
        moves = []
        for part in parts:
            module = net.module(weights)
            own = _scaled(plan, len(part))
            features, targets = torch.from_numpy(examples.features[part]), torch.from_numpy(examples.targets[part])
            probed = torch.from_numpy(net.examples(PROBED))
            persons = np.ones(len(part), dtype=np.int64) if plan.unit == "subject" else None
            train_round(module, features, targets, task.losses, own, optimisation, SecureNoise(), probed, persons)
            moved = flat(module).astype(np.float64) - weights
            moves.append(clipped(moved, plan.clipping_norm) if plan.shares else moved)
        mean = np.mean(moves, axis=0)
        if shares := plan.shares:
            mean = mean + shares.deviation / math.sqrt(len(parts)) * SecureNoise().normal(len(mean))
        step, moments = stepped(training.server, mean, moments)
        weights = (weights + step).astype(np.float32)
        if not np.isfinite(weights).all():
            return Measured(math.nan, math.nan)
        predictions = task.predictions(net.outputs(weights, examples.features[held]))
        question = task.question(config.evaluation.bins)
        counts = question.count(Rows(examples.targets[held]), predictions)
        score = question.read(counts, 0.0)[task.headline]
        told(number, score.value)
    return score


def _divided(
    order: np.ndarray[tuple[int], np.dtype[np.int64]], clients: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[np.ndarray[tuple[int], np.dtype[np.int64]]]]:
    """Who is held out, and the parts of the clients."""
    at = max(1, round(HELD_OUT * len(order)))
    return order[:at], [part for part in np.array_split(order[at:], clients) if len(part)]


def _plan(config: Config) -> DPPlan:
    """Of a client of the real federation."""
    lines = Lines.of(config).lines
    shares = SumTerms.of(config.privacy, lines, config.encryption, config.federation.min_cohort).shares
    rows = training_rows(config.tuning.rows, config.data.holdout)
    return Spending(config.privacy, lines, rows, shares).plan(config.training, config.model)


def _scaled(plan: DPPlan, rows: int) -> DPPlan:
    """As many steps at the same rate over other rows than declared, with as much noise in the mean gradient."""
    expected = max(1, round(plan.sampling_rate * rows))
    if plan.unit not in ("record", "subject"):
        return replace(plan, expected_batch=expected)
    noise = plan.noise_multiplier * expected / plan.expected_batch
    return replace(plan, expected_batch=expected, noise_multiplier=noise)
