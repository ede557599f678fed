"""What a run would cost at one client, and what other settings would: all of it before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.language.config import Config
from pipeline.language.lines import READ, Lines
from pipeline.language.noise import SumTerms, shares_noise
from pipeline.language.settings.privacy import ClientPrivacy
from pipeline.language.spending import Spending
from privacy.accounting import Release, epsilon_of
from privacy.errors import PlanInvalid
from privacy.plan import DPPlan
from privacy.population import Charge, exposures


@dataclass(frozen=True)
class Point:
    """Epsilon of the run at one value of one setting, all others as planned, the noise multiplier too."""

    setting: str
    value: str
    epsilon: float
    planned: bool


@dataclass(frozen=True)
class Alternative:
    """What another setting would need for its epsilon. step_noise: deviation of a step's noise in the cohort's mean."""

    title: str
    noise_multiplier: float
    step_noise: float
    steps: int


@dataclass(frozen=True)
class Forecast:
    """One private configuration at a client with so many training rows. Raises PlanInvalid when it has no plan."""

    settings: Config
    rows: int

    @property
    def plan(self) -> DPPlan:
        return self._plan(self.settings)

    @property
    def charges(self) -> list[Charge]:
        """What the ledger will be asked for."""
        return self._spending(self.settings).charges(self.settings.data.holdout, "plan")

    def stages(self) -> Iterator[tuple[str, float, float, str]]:
        """Each stage that charges: its epsilon alone by PLD and by RDP, and which records it reads."""
        spending = self._spending(self.settings)
        for line in spending.lines:
            release = spending.release(line.purpose)
            yield line.purpose, self._cost(release), epsilon_of([release], self.plan.delta, "rdp"), READ[line.reads]

    @property
    def total(self) -> float:
        """Epsilon of the run for its most exposed record, or client."""
        exposed = exposures(self.charges)
        return max(epsilon_of(releases, self.plan.delta) for releases in exposed)

    def curves(self) -> Iterator[Point]:
        """Epsilon against noise, rounds, batch and cohort."""
        plan, run = self.plan, self._exposure()
        for factor in (0.5, 0.7, 1.0, 1.4, 2.0, 4.0):
            noise = plan.noise_multiplier * factor
            yield self._point("noise", f"{noise:.3f}", replace(run, noise_multiplier=noise), factor == 1)
        for factor in (0.5, 1.0, 2.0, 4.0):
            rounds = max(1, round(plan.rounds * factor))
            extra = run.count - plan.run().count
            count = plan.run().count // plan.rounds * rounds + extra
            yield self._point("rounds", str(rounds), replace(run, count=count), factor == 1)
        if plan.unit != "client" and not self.settings.model.sums:
            for factor in (0.25, 1.0, 4.0):
                batch = max(1, min(plan.examples, round(plan.expected_batch * factor)))
                rate = batch / plan.examples
                steps = math.ceil(self.settings.training.local_epochs * plan.examples / batch) * plan.rounds
                changed = replace(plan, sampling_rate=rate).steps(steps)
                yield self._point("batch", str(batch), changed, factor == 1)
        for present in sorted({1, self._honest // 2, self._honest, 2 * self._honest, 4 * self._honest} - {0}):
            if self.shared:
                noise = plan.noise_multiplier * math.sqrt(present / self._honest)
                changed = replace(run, noise_multiplier=noise)
                yield self._point("honest clients", str(present), changed, present == self._honest)

    def alternatives(self) -> Iterator[Alternative]:
        """The noise that other settings need; a setting that cannot be planned is left out."""
        cohort = self._cohort
        for title, changed, clients in self._changed(cohort):
            try:
                plan = self._plan(changed)
            except PlanInvalid:
                continue
            shared = self._honest if self.shared else 1
            yield Alternative(title, plan.noise_multiplier, _step_noise(plan, clients, shared), _steps(plan))

    def _changed(self, cohort: int) -> Iterator[tuple[str, Config, int]]:
        settings, training, planned = self.settings, self.settings.training, self.plan.epsilon
        yield "as configured", settings, cohort
        for epsilon in (planned / 2, planned * 2, planned * 4):
            yield f"epsilon {epsilon:g}", _with(settings, "privacy", epsilon=epsilon), cohort
        sums = settings.model.sums
        section, now = ("model", sums) if sums else ("training", training.rounds)
        for rounds in (max(1, now // 2), now * 2):
            yield f"rounds {rounds}", _with(settings, section, rounds=rounds), cohort
        for batch in () if sums else (max(1, training.expected_batch // 4), training.expected_batch * 4):
            if self.plan.unit != "client":
                yield f"expected batch {batch}", _with(settings, "training", expected_batch=batch), cohort
        for clients in (2 * cohort, 10 * cohort):
            yield f"{clients} clients", _with(settings, "federation", min_cohort=clients), clients

    @property
    def _honest(self) -> int:
        privacy = self.settings.privacy
        if privacy == "none" or not self.shared:
            return 1
        return self.settings.federation.min_cohort - privacy.colluders

    @property
    def shared(self) -> bool:
        """Whether the clients share the noise of training."""
        return shares_noise(self.settings.privacy, Lines.of(self.settings).lines, "training")

    @property
    def _cohort(self) -> int:
        return self.settings.federation.expected_clients or self.settings.federation.min_cohort

    def _plan(self, settings: Config) -> DPPlan:
        return self._spending(settings).plan(settings.training, settings.model)

    def _spending(self, settings: Config) -> Spending:
        lines = Lines.of(settings).lines
        noise = SumTerms.of(settings.privacy, lines, settings.encryption, settings.federation.min_cohort)
        return Spending(settings.privacy, lines, self.rows, noise.shares)

    def _exposure(self) -> Release:
        """All that the most exposed client is exposed to, as one release; of a record what its training is."""
        run = self.plan.run()
        if not isinstance(self.settings.privacy, ClientPrivacy):
            return run
        return replace(run, count=sum(line.rounds for line in Lines.of(self.settings).lines))

    def _point(self, setting: str, value: str, release: Release, planned: bool) -> Point:
        return Point(setting, value, self._with_shares(release), planned)

    def _cost(self, release: Release) -> float:
        return epsilon_of([release], self.plan.delta)

    def _with_shares(self, release: Release) -> float:
        beside = () if release.unit == "client" else self._spending(self.settings).beside("training")
        return epsilon_of([release, *beside], self.plan.delta)


def _steps(plan: DPPlan) -> int:
    return plan.steps_per_round * plan.rounds


def _step_noise(plan: DPPlan, clients: int, honest: int) -> float:
    """Deviation, in a coordinate of the cohort's mean, of the noise of a step, or at client level of a round. honest:
    how many clients share it."""
    if plan.shares:
        return plan.shares.deviation / math.sqrt(clients)
    return plan.noise_multiplier * plan.clipping_norm / (plan.expected_batch * math.sqrt(clients * honest))


def _with(settings: Config, section: str, **fields: object) -> Config:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=fields)})
