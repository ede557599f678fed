"""Answering a question in a sum: exact whole numbers, bounded, noised as charged, sealed. Every question goes here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from clients.execution import ExecutionState, sealed_once
from clients.release import Vector, into_sum
from pipeline.language.protocol import Attempt, Purpose
from pipeline.language.spending import Spending
from pipeline.learning.queries.query import Query
from privacy.accounting import Release
from privacy.budget import Line
from privacy.noise import Integers, SecureNoise
from privacy.population import EVERYONE, Charge, Population
from privacy.statement import agreed
from privacy.stream import Words

Ready = TypeVar("Ready")

ONE_CLIENT = 1000
"""L2 norm of one client's counts under client-level privacy, in units of what one record adds: what one client can
change at most."""


@dataclass(frozen=True)
class Asked:
    """A question, for one sum.

    line: of the budget it is paid from. basis: what all clients of the sum must have agreed upon. population: whose
    records it is about.
    """

    purpose: Purpose
    query: Query
    line: Line
    basis: str
    attempt: Attempt
    population: Population


def answer(
    state: ExecutionState,
    spending: Spending,
    asked: Asked,
    prepare: Callable[[], Ready],
    count: Callable[[Ready], Integers],
) -> tuple[bytes, float]:
    """The sealed answer, and the deviation of the noise in each of its numbers, which follows from the budget alone.

    prepare: what can still refuse, without looking at data. count: looks at it, once.

    Raises BudgetExhausted, PlanInvalid, CohortTooSmall, RoundLost, ProtocolError, and what `prepare` raises.
    """
    spending.demand(asked.line)
    release, shares = spending.release(asked.line.purpose), spending.noise
    terms = agreed(asked.basis, state.membership.agreed_noise(asked.attempt, shares))
    norm = asked.query.norm if shares is None else ONE_CLIENT * math.ceil(asked.query.norm)
    noise = norm * (release.noise_multiplier if shares is None else shares.deviation / shares.clipping_norm)
    statement = state.membership.statement(asked.purpose, 1, asked.attempt, terms)
    vector = Vector(
        id=f"{state.id}/{asked.purpose}/1",
        name=sealed_once(f"{asked.purpose}-{asked.basis}", statement, shares),
        statement=statement,
        charge=Charge([release], EVERYONE if shares else asked.population),
        lost=f"{asked.line.purpose} was charged and then interrupted here; it is not made twice",
    )
    holder = state.membership.holder(asked.attempt.generation)

    def make(ready: Ready) -> Words:
        state.note_beside(spending.beside(asked.line.purpose))
        counts = count(ready)
        if shares:
            counts = of_one_client(counts, norm)
        if noise:
            counts = counts + whole_noise(noise, len(counts), release)
        return holder.integers(counts)

    return into_sum(state, holder, vector, prepare, make), noise


def whole_noise(deviation: float, count: int, release: Release) -> Integers:
    """Whole numbers of noise: discrete Gaussian, or a Gaussian that is rounded. To add it to whole numbers and to round
    what a Gaussian made of them is the same, so rounding costs nothing."""
    source = SecureNoise()
    if release.mechanism == "discrete-gaussian":
        return source.discrete_gaussian(deviation, count)
    rounded: Integers = np.rint(deviation * source.normal(count)).astype(np.int64)
    return rounded


def of_one_client(counts: Integers, most: float) -> Integers:
    """Counts scaled to an L2 norm of at most `most`: every client weighs the same, however many rows it has."""
    norm = max(1.0, float(np.linalg.norm(counts)))
    scaled: Integers = np.trunc(counts * (most / norm)).astype(np.int64)
    return scaled
