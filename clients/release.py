"""The only way that what depends on data leaves a client: charged, made once, stored, committed, and only then given.

The charge is on disk before data is touched, and counts from then on, also after a crash. What was made is stored
before it is given, so that the same question is answered from the store: nothing is made, and nothing charged, twice.
What was charged and not stored is lost, never made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from privacy.errors import RoundLost
from privacy.population import Charge

if TYPE_CHECKING:  # an answer that is in no sum does not depend on how sums are made
    from clients.execution import ExecutionState
    from clients.home import Home
    from privacy.statement import Statement
    from privacy.stream import Words
    from privacy.sums import Holder

Ready = TypeVar("Ready")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Vector:
    """What is asked for: a vector for one sum.

    id: of its charge in the ledger. name: under which it is kept to be sealed again. statement: what it is sealed for.
    lost: what is said when it was charged and then interrupted.
    """

    id: str
    name: str
    statement: Statement
    charge: Charge
    lost: str


def into_sum(
    state: ExecutionState,
    holder: Holder,
    asked: Vector,
    prepare: Callable[[], Ready],
    make: Callable[[Ready], Words],
) -> bytes:
    """The sealed vector. prepare: what can still refuse, without looking at data. make: looks at it, once.

    Raises RoundLost, SumRejected, BudgetExhausted, and what `prepare` raises: nothing is charged then.
    """
    ledger = state.home.ledger
    if (made := state.stored(asked.name, holder)) is None:
        if ledger.has(asked.id):
            raise RoundLost(asked.lost, travels=True)
        ready = prepare()
        holder.permit(asked.statement)
        ledger.reserve(asked.id, asked.charge.releases, asked.charge.population)
        made = make(ready)
        state.store(asked.name, holder, made)
    ledger.commit(asked.id)
    return holder.seal(made, asked.statement)


def by_itself(
    home: Home, name: str, charge: Charge, make: Callable[[], Answer], store: Callable[[Answer], None]
) -> Answer:
    """An answer that is private without others. A try that was interrupted after its charge is charged again, under the
    next number of its `name` (`SNAPSHOT/validate`)."""
    tries = sum(row.kind == "reserve" and row.id.startswith(f"{name}/") for row in home.ledger.rows())
    id = f"{name}/{tries + 1}"
    home.ledger.reserve(id, charge.releases, charge.population)
    made = make()
    store(made)
    home.ledger.commit(id)
    return made
