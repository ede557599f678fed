"""The privacy plan: one frozen value in which sampling, clipping, noise, steps and accounting cannot disagree.

This module is the only one that makes accounting events (`dp_accounting.DpEvent`). A plan is calibrated over the
*whole* run, all rounds together, never round by round: ten rounds at sigma 1 whose engine is rebuilt each round
print epsilon 2.87 for ever, while the truth is 7.05.

>>> plan = DPPlan.calibrated(epsilon=1.0, delta=1e-5, examples=10_000, expected_batch=1_000, epochs=1, rounds=10,
...                          clipping_norm=1.0)
>>> plan.steps_per_round, plan.sampling_rate
(10, 0.1)
>>> bool(0.99 <= epsilon_of([plan.run()], delta=1e-5) <= 1.0)
True
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from privacy.errors import PlanInvalid

Mechanism = Literal["sampled-gaussian", "gaussian", "none"]

_TOLERANCE = 1e-3
"""Relative precision of the calibrated noise multiplier; the search errs towards more noise."""


@dataclass(frozen=True, order=True)
class Release:
    """Something that leaves a client's data, `count` times, under add/remove-one-record adjacency.

    noise_multiplier: standard deviation of the noise over the sensitivity. sampling_rate: probability with which
    a record takes part (Poisson), 1 for a plain Gaussian mechanism. The meaning of a release never changes: the
    ledger stores these four values.
    """

    mechanism: Mechanism
    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1

    def event(self) -> Any:
        """The `dp_accounting` event of this release."""
        from dp_accounting import dp_event

        if self.mechanism == "none":
            return dp_event.NonPrivateDpEvent()
        single = dp_event.GaussianDpEvent(self.noise_multiplier)
        if self.mechanism == "sampled-gaussian":
            single = dp_event.PoissonSampledDpEvent(self.sampling_rate, single)
        return dp_event.SelfComposedDpEvent(single, self.count)


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Equal releases added up, sorted: the history as an order-free, hashable value."""
    counts: dict[Release, int] = {}
    for release in releases:
        one = replace(release, count=1)
        counts[one] = counts.get(one, 0) + release.count
    return tuple(sorted(replace(one, count=count) for one, count in counts.items()))


def epsilon_of(releases: Iterable[Release], delta: float, accountant: Literal["pld", "rdp"] = "pld") -> float:
    """Epsilon at `delta` of all `releases` composed; PLD is reported, RDP is the looser cross-check."""
    return _epsilon(merged(releases), delta, accountant)


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Release, ...], delta: float, accountant: str) -> float:
    if not history:
        return 0.0
    if any(release.mechanism == "none" for release in history):
        return math.inf
    composed: Any
    if accountant == "rdp":
        from dp_accounting.rdp import RdpAccountant

        composed = RdpAccountant()
    else:
        from dp_accounting.pld import PLDAccountant

        composed = PLDAccountant(value_discretization_interval=1e-3)
    for release in history:
        composed.compose(release.event())
    return float(composed.get_epsilon(delta))


@lru_cache(maxsize=4096)
def calibrate(epsilon: float, delta: float, sampling_rate: float, count: int) -> float:
    """Smallest noise multiplier (relative tolerance 1e-3) for which `count` sampled Gaussians cost at most `epsilon`.

    Raises PlanInvalid when epsilon or delta is out of range or no noise below 10^5 suffices.
    """
    if not epsilon > 0 or not math.isfinite(epsilon):
        raise PlanInvalid(
            f"expected epsilon > 0, got {epsilon}",
            remedy="Choose a positive epsilon, or `privacy: none`.",
            travels=True,
        )
    if not 0 < delta < 1:
        raise PlanInvalid(
            f"expected 0 < delta < 1, got {delta}", remedy="Choose a delta well below 1/rows.", travels=True
        )
    mechanism: Mechanism = "sampled-gaussian" if sampling_rate < 1 else "gaussian"

    def cost(noise: float) -> float:
        return _epsilon((Release(mechanism, noise, sampling_rate, count),), delta, "pld")

    low, high = 0.0, 1.0
    while cost(high) > epsilon:
        low, high = high, high * 2
        if high > 1e5:
            raise PlanInvalid(
                f"no noise multiplier below 1e5 reaches epsilon {epsilon} in {count} steps",
                remedy="Raise epsilon, or take fewer rounds or epochs.",
                travels=True,
            )
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return high


@dataclass(frozen=True)
class DPPlan:
    """How one client trains in one run. `examples` is the client's own row count and never leaves it.

    epsilon is the run's target; with `unit == "none"` it is infinite and the noise multiplier 0.
    """

    unit: Literal["record", "none"]
    examples: int
    sampling_rate: float
    expected_batch: int
    steps_per_round: int
    rounds: int
    clipping_norm: float
    noise_multiplier: float
    epsilon: float
    delta: float

    @classmethod
    def calibrated(
        cls,
        *,
        epsilon: float,
        delta: float,
        examples: int,
        expected_batch: int,
        epochs: int,
        rounds: int,
        clipping_norm: float,
    ) -> DPPlan:
        """A record-level plan whose whole run costs at most (epsilon, delta). Raises PlanInvalid."""
        shape = cls._shape(examples, expected_batch, epochs)
        if delta >= 1 / examples:
            raise PlanInvalid(
                f"delta {delta} is not below one over the number of training rows",
                remedy="A delta that large permits releasing whole records: choose a smaller privacy.delta.",
            )
        if not clipping_norm > 0:
            raise PlanInvalid(f"expected clipping_norm > 0, got {clipping_norm}", travels=True)
        noise = calibrate(epsilon, delta, shape["sampling_rate"], shape["steps_per_round"] * rounds)
        return cls(
            unit="record",
            examples=examples,
            rounds=rounds,
            clipping_norm=clipping_norm,
            noise_multiplier=noise,
            epsilon=epsilon,
            delta=delta,
            **shape,
        )

    @classmethod
    def non_private(cls, *, examples: int, expected_batch: int, epochs: int, rounds: int) -> DPPlan:
        """The explicit choice `privacy: none`: no clipping, no noise, epsilon infinite."""
        return cls(
            unit="none",
            examples=examples,
            rounds=rounds,
            clipping_norm=math.inf,
            noise_multiplier=0.0,
            epsilon=math.inf,
            delta=0.0,
            **cls._shape(examples, expected_batch, epochs),
        )

    @staticmethod
    def _shape(examples: int, expected_batch: int, epochs: int) -> dict[str, Any]:
        if examples < 1:
            raise PlanInvalid("there are no training rows", travels=True)
        batch = min(expected_batch, examples)
        # Steps are rounded up from rows over batch, never derived from 1/len(loader): that loses steps.
        return {
            "sampling_rate": batch / examples,
            "expected_batch": batch,
            "steps_per_round": math.ceil(epochs * examples / batch),
        }

    def steps(self, count: int) -> Release:
        """The release that `count` optimizer steps make."""
        if self.unit == "none":
            return Release("none", 0.0, self.sampling_rate, count)
        mechanism: Mechanism = "sampled-gaussian" if self.sampling_rate < 1 else "gaussian"
        return Release(mechanism, self.noise_multiplier, self.sampling_rate, count)

    def round(self) -> Release:
        """The release of one round."""
        return self.steps(self.steps_per_round)

    def run(self) -> Release:
        """The release of the whole run, for which the noise was calibrated."""
        return self.steps(self.steps_per_round * self.rounds)


def counts_release(epsilon: float | None, delta: float) -> Release:
    """Counts in which one record changes one cell by one (L2 sensitivity 1); None: without noise."""
    if epsilon is None:
        return Release("none", 0.0)
    return Release("gaussian", calibrate(epsilon, delta, 1.0, 1))
