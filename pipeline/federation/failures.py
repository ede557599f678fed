"""Why clients have no answer, for a person: what several of them say alike is said once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from privacy.errors import BudgetExhausted, CohortTooSmall, SottovoceError

NAMED = 8
"""Clients that are named of those that say the same."""


@dataclass(frozen=True)
class Failure:
    """Why a client has no answer: a code and a text that may be shown."""

    client: str
    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.client} ({self.text})"


def told(failures: Iterable[Failure]) -> str:
    """All of them in a line. Two texts that differ by the client's own name alone are one."""
    alike: dict[str, list[Failure]] = {}
    for failure in failures:
        alike.setdefault(failure.text.replace(failure.client, "\0"), []).append(failure)
    return ", ".join(_group(group) for group in alike.values())


def _group(group: Sequence[Failure]) -> str:
    first, *others = group
    if not others:
        return str(first)
    names = [failure.client for failure in group]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    example = "" if first.client not in first.text else f"{first.client}: "
    return f"{', '.join(names[:NAMED])}{more} (each alike; {example}{first.text})"


def shortfall(text: str, failures: Sequence[Failure]) -> SottovoceError:
    """The error when too few answered: that of the budget where that is what all of them say."""
    if failures and all(failure.code == "budget-exhausted" for failure in failures):
        return BudgetExhausted(
            text, remedy="Lower privacy.epsilon, or ask the owners to raise lifetime_epsilon in their policies."
        )
    return CohortTooSmall(
        text, remedy="Mend those clients and run the same command again: it goes on where it stopped."
    )
