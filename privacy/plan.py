"""The privacy plan: one frozen value in which sampling, clipping, noise, steps, weights and cost cannot disagree.

A plan is calibrated over the *whole* run, all rounds together, never round by round: ten rounds at sigma 1 whose
engine is rebuilt each round print epsilon 2.87 for ever, while the truth is 7.05.

>>> from privacy.accounting import epsilon_of
>>> plan = DPPlan.record_level(epsilon=1.0, delta=1e-5, examples=10_000, expected_batch=1_000, epochs=1, rounds=10,
...                            clipping_norm=1.0, weight_cap=20_000)
>>> plan.steps_per_round, plan.sampling_rate, plan.weight
(10, 0.1, 0.5)
>>> bool(0.99 <= epsilon_of([plan.run()], delta=1e-5) <= 1.0)
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from privacy.accounting import Mechanism, Release, calibrate, epsilon_of
from privacy.budget import steps_of
from privacy.errors import PlanInvalid
from privacy.shares import NoiseShares

Unit = Literal["record", "subject", "client", "none"]

ADJACENCY: dict[Unit, str] = {
    "record": "add/remove one record",
    "subject": "add/remove one person with all records",
    "client": "all of one client's data against none (zero-out)",
    "none": "no adjacency",
}
"""Between which data sets a unit's epsilon holds. Replacing one record is removing and adding: about twice."""


_COUNTED = {"record": "rows", "subject": "persons"}


@dataclass(frozen=True)
class DPPlan:
    """How one client trains in one run.

    examples: training rows, or persons, that the data owner declares, a public number. How many there are decides about
    nothing here, so that no plan, weight, charge or refusal tells it: with more rows than declared batches are larger,
    with fewer they are smaller, and each record is in a batch with `sampling_rate` all the same.

    epsilon: the run's target; without privacy it is infinite and the noise multiplier 0. weight, in (0, 1]: what the
    client's update is multiplied by in the sum. cohort, colluders: among how many clients the noise is divided and how
    many of them are not counted on; 1 and 0: the client adds all of the noise itself, in every step.
    """

    unit: Unit
    examples: int
    sampling_rate: float
    expected_batch: int
    steps_per_round: int
    rounds: int
    clipping_norm: float
    noise_multiplier: float
    epsilon: float
    delta: float
    weight: float = 1.0
    cohort: int = 1
    colluders: int = 0

    @classmethod
    def record_level(
        cls,
        *,
        epsilon: float,
        delta: float,
        examples: int,
        expected_batch: int,
        epochs: int,
        rounds: int,
        clipping_norm: float,
        weight_cap: int = 1,
        beside: tuple[Release, ...] = (),
        unit: Literal["record", "subject"] = "record",
    ) -> DPPlan:
        """DP-SGD whose whole run, `beside` included, costs at most (epsilon, delta) for each record, or each person.

        Of a person that is sampled one record takes part in the step, drawn anew: what a person adds is the gradient of
        one record, so it is accounted as records are.

        Raises PlanInvalid.
        """
        shape = cls._shape(examples, expected_batch, epochs)
        if delta >= 1 / examples:
            raise PlanInvalid(
                f"delta {delta} is not below one over the {examples:,} training {_COUNTED[unit]} that the client "
                "declares",
                remedy="A delta that large permits releasing whole records: choose a smaller privacy.delta.",
                travels=True,
            )
        if not clipping_norm > 0:
            raise PlanInvalid(f"expected clipping_norm > 0, got {clipping_norm}", travels=True)
        noise = calibrate(epsilon, delta, shape["sampling_rate"], shape["steps_per_round"] * rounds, None, beside)
        return cls(
            unit=unit,
            rounds=rounds,
            clipping_norm=clipping_norm,
            noise_multiplier=noise,
            epsilon=epsilon,
            delta=delta,
            weight=min(examples, weight_cap) / weight_cap,
            **shape,
        )

    @classmethod
    def client_level(
        cls,
        *,
        epsilon: float,
        delta: float,
        shares: NoiseShares,
        examples: int,
        expected_batch: int,
        epochs: int,
        rounds: int,
    ) -> DPPlan:
        """Whole updates, clipped and noised in `shares`; every client weighs the same. Raises PlanInvalid.

        The noise multiplier is the cohort's, so it comes from outside: it has to suffice for all that sees the same
        clients (privacy.budget.by_clients).
        """
        made = cls(
            unit="client",
            rounds=rounds,
            clipping_norm=shares.clipping_norm,
            noise_multiplier=shares.noise_multiplier,
            epsilon=epsilon,
            delta=delta,
            cohort=shares.cohort,
            colluders=shares.colluders,
            **cls._shape(examples, expected_batch, epochs),
        )
        if delta >= 1 / shares.honest:
            raise PlanInvalid(
                f"delta {delta} is not below one over the number of clients",
                remedy="Choose a smaller privacy.delta.",
                travels=True,
            )
        if epsilon_of([made.run()], delta) > epsilon:
            raise PlanInvalid(
                f"the noise multiplier {shares.noise_multiplier:.3f} costs more than epsilon {epsilon:g}", travels=True
            )
        return made

    @classmethod
    def non_private(
        cls, *, examples: int, expected_batch: int, epochs: int, rounds: int, weight_cap: int = 1
    ) -> DPPlan:
        """The explicit choice `privacy: none`: no clipping, no noise, epsilon infinite."""
        return cls(
            unit="none",
            rounds=rounds,
            clipping_norm=math.inf,
            noise_multiplier=0.0,
            epsilon=math.inf,
            delta=0.0,
            weight=min(examples, weight_cap) / weight_cap,
            **cls._shape(examples, expected_batch, epochs),
        )

    @staticmethod
    def _shape(examples: int, expected_batch: int, epochs: int) -> dict[str, Any]:
        batch, rate, steps = steps_of(examples, expected_batch, epochs)
        return {"examples": examples, "sampling_rate": rate, "expected_batch": batch, "steps_per_round": steps}

    @property
    def adjacency(self) -> str:
        """Between which data sets this plan's epsilon holds."""
        return ADJACENCY[self.unit]

    @property
    def shares(self) -> NoiseShares | None:
        """At client level: the share of the cohort's noise that this client adds to its update."""
        if self.unit != "client":
            return None
        return NoiseShares(self.noise_multiplier, self.clipping_norm, self.cohort, self.colluders)

    def steps(self, count: int) -> Release:
        """The release that `count` optimizer steps make by themselves; only with DP-SGD, or without privacy."""
        if self.unit == "none":
            return Release("none", 0.0, self.sampling_rate, count)
        mechanism: Mechanism = "sampled-gaussian" if self.sampling_rate < 1 else "gaussian"
        return Release(mechanism, self.noise_multiplier, self.sampling_rate, count, self._released)

    def round(self) -> Release:
        """The release of one round."""
        if self.unit == "client":
            return self._updates(1)
        return self.steps(self.steps_per_round)

    def run(self) -> Release:
        """The release of all rounds."""
        if self.unit == "client":
            return self._updates(self.rounds)
        return self.steps(self.steps_per_round * self.rounds)

    @property
    def _released(self) -> Literal["record", "subject"]:
        """The unit of a release that is noised by this client alone."""
        return "subject" if self.unit == "subject" else "record"

    def _updates(self, count: int) -> Release:
        return Release("gaussian", self.noise_multiplier, 1.0, count, "client")
