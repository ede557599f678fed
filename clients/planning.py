"""The plan that a run's configuration makes at one client, from the rows its owner declares and from its ledger.

Nothing here looks at the table: a plan, a charge or a refusal that depended on how many rows there are would tell it.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.language.protocol import AskedShares
from pipeline.language.settings.privacy import ClientPrivacy, Privacy, RecordPrivacy
from pipeline.language.settings.training import TrainingConfig
from privacy.accounting import Release, calibrate
from privacy.errors import BudgetExhausted, ProtocolError
from privacy.ledger import Ledger
from privacy.plan import DPPlan, checks_release, counts_release
from privacy.population import Charge, Population
from privacy.shares import NoiseShares


def training_rows(rows: int, holdout: float) -> int:
    """How many of the declared rows, or persons, train."""
    return max(1, round(rows * (1 - holdout)))


def by_person(privacy: Privacy) -> bool:
    """Whether counts take one record a person."""
    return isinstance(privacy, RecordPrivacy) and privacy.unit == "subject"


def checks_of(privacy: Privacy, share: float, columns: int) -> tuple[Release, ...]:
    """What the checks of a snapshot release, if they look at it at all. Raises PlanInvalid.

    One record adds one to one count of each column, to that of positives and to that of duplicates. At client level
    nothing that one client answers may depend on its data, so there are no checks.
    """
    if isinstance(privacy, ClientPrivacy) or share == 0:
        return ()
    if privacy == "none":
        return (checks_release(None, 0.0, share, columns + 2),)
    return (checks_release(privacy.epsilon, privacy.delta, share, columns + 2, privacy.unit),)


def make_plan(
    privacy: Privacy,
    training: TrainingConfig,
    examples: int,
    shares: AskedShares | None = None,
    beside: tuple[Release, ...] = (),
) -> DPPlan:
    """The plan of a whole run at a client with `examples` declared training rows, or persons.

    Raises PlanInvalid, ProtocolError.

    shares: the cohort's noise, at client level. beside: what the checks have released.
    """
    shape = {
        "examples": examples,
        "expected_batch": training.expected_batch,
        "epochs": training.local_epochs,
        "rounds": training.rounds,
    }
    if privacy == "none":
        return DPPlan.non_private(**shape, weight_cap=training.weight_cap)
    if isinstance(privacy, RecordPrivacy):
        return DPPlan.record_level(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            clipping_norm=privacy.clipping_norm,
            weight_cap=training.weight_cap,
            beside=beside,
            unit=privacy.unit,
            **shape,
        )
    if shares is None or shares.cohort <= privacy.colluders:
        raise ProtocolError("client-level privacy without the noise of an honest cohort", travels=True)
    noise = NoiseShares(shares.noise_multiplier, privacy.clipping_norm, shares.cohort, privacy.colluders)
    return DPPlan.client_level(epsilon=privacy.epsilon, delta=privacy.delta, shares=noise, **shape)


def evaluation_of(
    privacy: Privacy, training: TrainingConfig, shares: AskedShares | None, beside: tuple[Release, ...], norm: float
) -> tuple[Release, NoiseShares | None]:
    """What the evaluation releases, and at client level how its noise is divided. norm: of what one record adds.

    Raises PlanInvalid, ProtocolError.
    """
    if isinstance(privacy, ClientPrivacy):
        plan = make_plan(privacy, training, 1, shares)
        return plan.evaluation(norm), plan.shares
    if privacy == "none":
        return counts_release(None, 0.0), None
    return counts_release(privacy.epsilon, privacy.delta, beside, norm, privacy.unit), None


def whole_run(privacy: Privacy) -> list[Charge]:
    """A stand-in for all that a run will charge, for before its plan is known: one release of its epsilon and delta."""
    if privacy == "none":
        return [Charge([Release("none", 0.0)])]
    return [Charge([Release("gaussian", calibrate(privacy.epsilon, privacy.delta, 1.0, 1))])]


def charges(plan: DPPlan, holdout: float, basis: str, norm: float) -> list[Charge]:
    """What the rounds and the evaluation will charge. Training and held-out records are disjoint; a client is one."""
    if plan.unit == "client":
        return [Charge([plan.run(), plan.evaluation(norm)])]
    training, held_out = Population(holdout, 1.0, basis), Population(0.0, holdout, basis)
    return [Charge([plan.run()], training), Charge([plan.evaluation(norm)], held_out)]


def afford(ledger: Ledger, privacy: Privacy, wanted: list[Charge], at: Callable[[Privacy], list[Charge]]) -> None:
    """Raise BudgetExhausted when the ledger has too little left for `wanted`; it names an epsilon that would do.

    at: what a run under another privacy would charge.
    """
    try:
        ledger.affords(wanted)
    except BudgetExhausted as error:
        if isinstance(privacy, RecordPrivacy | ClientPrivacy) and (rest := affordable(ledger, privacy, at)):
            error.remedy = (
                f"Lower privacy.epsilon to {rest:g}, or ask the data owner to raise lifetime_epsilon in the policy."
            )
        raise


def affordable(
    ledger: Ledger, privacy: RecordPrivacy | ClientPrivacy, at: Callable[[Privacy], list[Charge]]
) -> float | None:
    """About the largest epsilon, in tenths, that the ledger has left for such a run; None: not even a tenth."""
    low, high = 0, round(privacy.epsilon * 10)
    middle = int(10 * (ledger.budget.epsilon - ledger.spent()))  # what plain addition would leave
    while high - low > max(1, high // 20):
        middle = middle if low < middle < high else (low + high) // 2
        after = ledger.after(at(privacy.model_copy(update={"epsilon": middle / 10})))
        low, high = (middle, high) if after <= ledger.budget.epsilon else (low, middle)
    return low / 10 if low else None
