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
from privacy.accounting import Release
from privacy.budget import Line
from privacy.errors import PlanInvalid
from privacy.noise import Integers, SecureNoise
from privacy.population import EVERYONE, Charge, Population
from privacy.shares import TAIL, NoiseShares
from privacy.statement import agreed
from privacy.stream import Words

Ready = TypeVar("Ready")

ONE_CLIENT = 1000
"""L2 norm of one client's counts under client-level privacy, in units of what one record adds: what one client can
change at most."""


@dataclass(frozen=True)
class Asked:
    """A question, for one sum.

    norm: L2 norm of what one record adds to the answer, at most. line: of the budget it is paid from. basis: what all
    clients of the sum must have agreed upon. population: whose records it is about. round: which of the line's sums.
    release: of that sum; None: all that the line releases. rows: where a client is protected, what its answer is
    divided by before it counts as one.
    """

    purpose: Purpose
    norm: float
    line: Line
    basis: str
    attempt: Attempt
    population: Population
    round: int = 1
    release: Release | None = None
    rows: int | None = None


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
    purpose, levels = asked.line.purpose, spending.levels(asked.line.purpose, asked.norm)
    release = asked.release or spending.release(purpose)
    shares = spending.shared(purpose, levels * asked.norm, release)
    terms = agreed(asked.basis, state.membership.agreed_noise(asked.attempt, shares))
    whole, noise = release.unit == "client", deviation_of(levels * asked.norm, release, shares)
    statement = state.membership.statement(asked.purpose, asked.round, asked.attempt, terms)
    vector = Vector(
        id=f"{state.id}/{asked.purpose}/{asked.round}",
        name=sealed_once(f"{asked.purpose}-{asked.round}-{asked.basis}", statement, shares),
        statement=statement,
        charge=Charge([release], EVERYONE if whole else asked.population),
        lost=f"{purpose} was charged and then interrupted here; it is not made twice",
    )
    holder = state.membership.holder(asked.attempt.generation)
    most = holder.largest - math.ceil(TAIL * noise)
    if most < 1:
        raise PlanInvalid(
            f"noise of deviation {noise:.3g} is more than a sum of so many clients holds",
            remedy="Raise epsilon, or have fewer clients in one sum.",
            travels=True,
        )

    def make(ready: Ready) -> Words:
        if not state.noted:
            state.note_beside(spending.beside(purpose))
        counts = count(ready)
        if whole:
            counts = of_one_client(counts, ONE_CLIENT * math.ceil(asked.norm), asked.rows)
        # Cut before noise is added: a refusal of what is too large would say that it is.
        counts = np.clip(counts * levels, -most, most)
        if noise:
            discrete = shares is not None or release.mechanism == "discrete-gaussian"
            counts = counts + whole_noise(noise, len(counts), discrete=discrete)
        return holder.integers(counts)

    return into_sum(state, holder, vector, prepare, make), noise


def deviation_of(norm: float, release: Release, shares: NoiseShares | None) -> float:
    """Of the noise that this client adds to each number, where a record changes them by an L2 norm of `norm`."""
    if shares is None:
        return norm * release.noise_multiplier
    most = ONE_CLIENT * math.ceil(norm) if release.unit == "client" else norm
    return most * shares.deviation / shares.clipping_norm


def whole_noise(deviation: float, count: int, *, discrete: bool) -> Integers:
    """Whole numbers of noise: discrete Gaussian, or a Gaussian that is rounded. To add it to whole numbers and to round
    what a Gaussian made of them is the same, so rounding costs nothing; but shares that were rounded one by one do not
    add up to a Gaussian that was rounded once."""
    source = SecureNoise()
    if discrete:
        return source.discrete_gaussian(deviation, count)
    rounded: Integers = np.rint(deviation * source.normal(count)).astype(np.int64)
    return rounded


def of_one_client(counts: Integers, most: float, rows: int | None = None) -> Integers:
    """Counts scaled to an L2 norm of at most `most`: every client weighs the same, however many rows it has. rows: as
    if it had `ONE_CLIENT` of so many, so that several answers of a client are to one scale."""
    norm = max(1.0, float(np.linalg.norm(counts)))
    factor = most / norm if rows is None else min(ONE_CLIENT / rows, most / norm)
    scaled: Integers = np.trunc(counts * factor).astype(np.int64)
    return scaled
