"""The plan that a run's configuration makes at one client, from the number of its training rows and its ledger."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import ClientPrivacy, Privacy, RecordPrivacy, TrainingConfig
from pipeline.protocol import Shares
from privacy.accounting import Release
from privacy.errors import BudgetExhausted, ProtocolError
from privacy.ledger import Ledger, Wanted
from privacy.plan import DPPlan, counts_release
from privacy.population import EVERYONE, Population
from privacy.shares import NoiseShares


def make_plan(privacy: Privacy, training: TrainingConfig, examples: int, shares: Shares | None = None) -> DPPlan:
    """The plan of a whole run at a client with `examples` training rows. Raises PlanInvalid, ProtocolError.

    shares: the cohort's noise, at client level.
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
            **shape,
        )
    if shares is None or shares.cohort <= privacy.colluders:
        raise ProtocolError("client-level privacy without the noise of an honest cohort", travels=True)
    noise = NoiseShares(shares.noise_multiplier, privacy.clipping_norm, shares.cohort, privacy.colluders)
    return DPPlan.client_level(epsilon=privacy.epsilon, delta=privacy.delta, shares=noise, **shape)


def evaluation_of(
    privacy: Privacy, training: TrainingConfig, shares: Shares | None
) -> tuple[Release, NoiseShares | None]:
    """What the evaluation releases, and at client level how its noise is divided. Raises PlanInvalid, ProtocolError."""
    if isinstance(privacy, ClientPrivacy):
        plan = make_plan(privacy, training, 1, shares)
        return plan.evaluation(), plan.shares
    return counts_release(None if privacy == "none" else privacy.epsilon, getattr(privacy, "delta", 0.0)), None


def charges(plan: DPPlan, holdout: float, basis: str) -> list[Wanted]:
    """What the rounds and the evaluation will charge. Training and held-out records are disjoint; a client is one."""
    if plan.unit == "client":
        return [([plan.run(), plan.evaluation()], EVERYONE)]
    return [([plan.run()], Population(holdout, 1.0, basis)), ([plan.evaluation()], Population(0.0, holdout, basis))]


def afford(ledger: Ledger, privacy: Privacy, wanted: list[Wanted], at: Callable[[Privacy], list[Wanted]]) -> None:
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
    ledger: Ledger, privacy: RecordPrivacy | ClientPrivacy, at: Callable[[Privacy], list[Wanted]]
) -> float | None:
    """About the largest epsilon, in tenths, that the ledger has left for such a run; None: not even a tenth."""
    low, high = 0, round(privacy.epsilon * 10)
    middle = int(10 * (ledger.budget.epsilon - ledger.spent()))  # what plain addition would leave
    while high - low > max(1, high // 20):
        middle = middle if low < middle < high else (low + high) // 2
        after = ledger.after(at(privacy.model_copy(update={"epsilon": middle / 10})))
        low, high = (middle, high) if after <= ledger.budget.epsilon else (low, middle)
    return low / 10 if low else None
