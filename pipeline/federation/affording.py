"""Asking every client whether its budget pays for a whole run, before anything is spent."""

from __future__ import annotations

from pipeline.engine.progress import BudgetAsked
from pipeline.federation.clients import Clients, printable
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.protocol import AskedSpending, JoinRequest, own_version
from privacy.errors import BudgetExhausted


def ask_budget(clients: Clients, config: Config) -> None:
    """Tell of each client whether it could. Nothing is charged. A run of which a part is there already costs less.

    Raises BudgetExhausted when fewer than the minimum cohort could, CohortTooSmall when fewer joined.
    """
    lines = Lines.of(config).lines
    noise = SumTerms.of(config.privacy, lines, config.encryption, clients.min_cohort)
    wanted = JoinRequest(
        version=own_version(),
        contract=config.data,
        model=config.model,
        spending=AskedSpending(privacy=config.privacy, lines=lines, shares=noise.shares),
    )
    joined = clients.join(config.federation.expected_clients, wanted)
    for name, reply in joined.items():
        clients.progress(BudgetAsked(name, printable(reply.unaffordable), reply.source))
    refusals = {name: printable(reply.unaffordable) for name, reply in joined.items() if reply.unaffordable}
    if len(joined) - len(refusals) < clients.min_cohort:
        name, why = next(iter(refusals.items()), ("nobody", "no client joined"))
        others = f" So it is at {len(refusals) - 1} more." if len(refusals) > 1 else ""
        raise BudgetExhausted(
            f"{len(joined) - len(refusals)} of {len(joined)} clients could pay for this run, at least "
            f"{clients.min_cohort} must. {name}: {why}{others} Nothing was charged.",
            remedy="Lower privacy.epsilon, or ask the owners to raise lifetime_epsilon in their policies.",
        )
