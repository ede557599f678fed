"""What a run spends at one client: priced from its lines and the rows the owner declares, held against the ledger.

Nothing here looks at the table: a plan, a charge or a refusal that depended on how many rows there are would tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.language.lines import Lines
from pipeline.language.noise import FINE, SumTerms, levels_of, noise_follows, shares_noise
from pipeline.language.protocol import AskedShares
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import ClientPrivacy, Privacy, RecordPrivacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.models.model import Model
from privacy.accounting import Release
from privacy.budget import Line, affordable, beside, by_clients, check, together
from privacy.errors import BudgetExhausted, PlanInvalid, ProtocolError
from privacy.ledger import Ledger
from privacy.plan import DPPlan
from privacy.population import Charge
from privacy.shares import NoiseShares


def training_rows(rows: int, holdout: float) -> int:
    """How many of the declared rows, or persons, train."""
    return max(1, round(rows * (1 - holdout)))


def by_person(privacy: Privacy) -> bool:
    """Whether counts take one record a person."""
    return isinstance(privacy, RecordPrivacy) and privacy.unit == "subject"


@dataclass(frozen=True)
class Spending:
    """What a run spends at this client: the lines of its budget, priced.

    rows: training rows, or persons, that the owner declares. shares: how a cohort shares noise, where it does.
    """

    privacy: Privacy
    lines: tuple[Line, ...]
    rows: int
    shares: AskedShares | None = None

    def demand(self, line: Line | None) -> None:
        """Raise ProtocolError unless what is asked is what the budget says; PlanInvalid where that says two things."""
        check(self.lines)
        if line is not None and line not in self.lines:
            raise ProtocolError(
                f"what is asked for {line.purpose} is not what the budget of the run says",
                remedy="Coordinator and clients must have the same version.",
                travels=True,
            )

    def release(self, purpose: str) -> Release:
        """What the line of `purpose` releases. Raises PlanInvalid, ProtocolError."""
        return self._priced(self._narrowed(purpose))[purpose]

    def beside(self, purpose: str) -> tuple[Release, ...]:
        """What was released before of the records that `purpose` reads, in its epsilon."""
        lines = self._narrowed(purpose)
        return beside(lines, self._priced(lines), purpose)

    def _narrowed(self, purpose: str) -> tuple[Line, ...]:
        return Lines(lines=self.lines).narrowed(purpose).lines

    def _priced(self, lines: tuple[Line, ...]) -> dict[str, Release]:
        """By purpose. Raises PlanInvalid when they cost more than epsilon, ProtocolError without an honest cohort."""
        privacy = self.privacy
        if privacy == "none":
            return {line.purpose: replace(line.release(self.rows, 0.0), mechanism="none") for line in lines}
        if isinstance(privacy, RecordPrivacy):
            return together(privacy.epsilon, privacy.delta, lines, self.rows, privacy.unit)
        noise = self.noise
        return by_clients(privacy.epsilon, privacy.delta, lines, noise.noise_multiplier if noise else 0.0)

    def shared(self, purpose: str, norm: float, release: Release) -> NoiseShares | None:
        """How the cohort divides the noise of the sums of `purpose`, where one record or one client changes a sum by an
        L2 norm of at most `norm`; None: this client adds all of it. release: of one of them.

        Raises PlanInvalid, ProtocolError.
        """
        privacy, shares = self.privacy, self.shares
        if isinstance(privacy, ClientPrivacy):
            return self.noise
        if not shares_noise(privacy, self.lines, purpose):
            return None
        if privacy == "none" or shares is None or shares.cohort <= privacy.colluders:
            raise ProtocolError("shared noise without an honest cohort to share it", travels=True)
        if any(line.batch for line in self._narrowed(purpose)):
            # What such a line leaves depends on the rows that each client declares: their shares would not be equal.
            raise ProtocolError("shared noise beside a line that is not of sums", travels=True)
        follows = noise_follows(privacy, self.lines, purpose)
        made = NoiseShares(release.noise_multiplier, norm, shares.cohort, privacy.colluders, follows)
        if made.deviation < FINE:
            raise PlanInvalid(
                f"epsilon {privacy.epsilon:g} needs so little noise that it cannot be shared",
                remedy="Set privacy.noise: own.",
                travels=True,
            )
        return made

    def levels(self, purpose: str, norm: float) -> int:
        """By what a count is multiplied before it is summed."""
        record = self.privacy != "none" and not isinstance(self.privacy, ClientPrivacy)
        return levels_of(norm) if record and shares_noise(self.privacy, self.lines, purpose) else 1

    @property
    def noise(self) -> NoiseShares | None:
        """How the cohort divides the noise, at client level. Raises ProtocolError where nobody honest shares it."""
        privacy, shares = self.privacy, self.shares
        if not isinstance(privacy, ClientPrivacy):
            return None
        if shares is None or shares.noise_multiplier is None or shares.cohort <= privacy.colluders:
            raise ProtocolError("client-level privacy without the noise of an honest cohort", travels=True)
        return NoiseShares(shares.noise_multiplier, privacy.clipping_norm, shares.cohort, privacy.colluders)

    def plan(self, training: TrainingConfig, model: Model) -> DPPlan:
        """The plan of all rounds; a sum over all records is a step that every one of them is in.

        Raises PlanInvalid, ProtocolError.
        """
        privacy = self.privacy
        shape = {
            "examples": self.rows,
            "expected_batch": self.rows if model.sums else training.expected_batch,
            "epochs": 1 if model.sums else training.local_epochs,
            "rounds": model.sums or training.rounds,
        }
        if privacy == "none":
            return DPPlan.non_private(**shape, weight_cap=training.weight_cap)
        if isinstance(privacy, RecordPrivacy):
            return DPPlan.record_level(
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                clipping_norm=privacy.clipping_norm,
                weight_cap=training.weight_cap,
                beside=self.beside("training"),
                unit=privacy.unit,
                **shape,
            )
        self._priced(self.lines)  # the noise suffices for all of them
        if (noise := self.noise) is None:
            raise ProtocolError("client-level privacy without the noise of an honest cohort", travels=True)
        return DPPlan.client_level(epsilon=privacy.epsilon, delta=privacy.delta, shares=noise, **shape)

    def charges(self, holdout: float, basis: str, since: str | None = None) -> list[Charge]:
        """What the run will charge, from the line of purpose `since` on; None: all of it."""
        purposes = [line.purpose for line in self.lines]
        releases, first = self._priced(self.lines), purposes.index(since) if since else 0
        return [Charge([releases[line.purpose]], line.population(holdout, basis)) for line in self.lines[first:]]

    def afford(self, ledger: Ledger, holdout: float, basis: str, since: str | None = None) -> None:
        """Raise BudgetExhausted when the ledger has too little left for the rest of the run; it names an epsilon that
        would do. Raises PlanInvalid for lines that cost more than the epsilon of the run."""
        privacy, budget = self.privacy, ledger.budget
        if isinstance(privacy, RecordPrivacy) and not ledger.rows():
            # Where nothing was spent a run costs its own epsilon, and no noise has to be searched for to know that.
            affordable(privacy.epsilon, privacy.delta, self.lines, self.rows, privacy.unit)
            if privacy.epsilon <= budget.epsilon and privacy.delta <= budget.delta:
                return
        try:
            ledger.affords(self.charges(holdout, basis, since))
        except BudgetExhausted as error:
            if rest := self._affordable(ledger, holdout, basis, since):
                error.remedy = (
                    f"Lower privacy.epsilon to {rest:g}, or ask the data owner to raise lifetime_epsilon in the policy."
                )
            raise

    def at(self, epsilon: float) -> Spending:
        """The same run with another epsilon. Raises PlanInvalid."""
        if self.privacy == "none":
            return self
        privacy, shares = self.privacy.model_copy(update={"epsilon": epsilon}), self.shares
        if shares:
            shares = SumTerms.of(privacy, self.lines, EncryptionConfig(), shares.cohort).shares
        return replace(self, privacy=privacy, shares=shares)

    def _affordable(self, ledger: Ledger, holdout: float, basis: str, since: str | None) -> float | None:
        """About the largest epsilon, in tenths, that the ledger has left for it; None: not even a tenth."""
        if self.privacy == "none":
            return None
        low, high = 0, round(self.privacy.epsilon * 10)
        middle = int(10 * (ledger.budget.epsilon - ledger.spent()))  # what plain addition would leave
        while high - low > max(1, high // 20):
            middle = middle if low < middle < high else (low + high) // 2
            after = ledger.after(self.at(middle / 10).charges(holdout, basis, since))
            low, high = (middle, high) if after <= ledger.budget.epsilon else (low, middle)
        return low / 10 if low else None
