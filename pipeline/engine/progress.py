"""What happens in a run, as events. Whoever shows them (a terminal, a log, JSON lines) decides how."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pipeline.language.protocol import CheckOutcome


@dataclass(frozen=True)
class RunPlanned:
    """Before anything runs: each stage, where it runs, what it will charge, and whether its result is cached."""

    run: str
    name: str
    stages: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class StageStarted:
    stage: str


@dataclass(frozen=True)
class StageFinished:
    """cached: nothing ran, an earlier result with the same inputs, parameters and code was used."""

    stage: str
    cached: bool
    seconds: float


@dataclass(frozen=True)
class StageBroken:
    stage: str
    error: str


@dataclass(frozen=True)
class GroupAgreed:
    """A group key is in place; the layout follows from the number of clients. generation grows when one has left."""

    generation: int
    clients: int
    masks: bool
    layout: str


@dataclass(frozen=True)
class RoundFinished:
    """clients: how many are in the sum, of `cohort` in the group. lost: charged at some clients, applied at none."""

    round: int
    rounds: int
    clients: int
    cohort: int
    seconds: float
    lost: bool = False


@dataclass(frozen=True)
class ClientExcluded:
    client: str
    code: str
    text: str


@dataclass(frozen=True)
class ClientWarned:
    client: str
    text: str


@dataclass(frozen=True)
class BudgetAsked:
    """Whether a client could pay for a whole run, and a keyed digest of its data source; cause: why not, or empty."""

    client: str
    cause: str
    source: str


@dataclass(frozen=True)
class Traffic:
    """Bytes of arrays that one request moved, all clients together."""

    up: int
    down: int


@dataclass(frozen=True)
class Notice:
    """Something a person should know, in words."""

    text: str


MEANT = {
    "bounds": "out of bounds, or unreadable (validation.out_of_bounds)",
    "categories": "none of what is declared (validation.unknown_categories)",
    "missing": "missing (validation.missing)",
    "label-balance": "in the rarest class (validation.minority_share)",
    "duplicates": "exact copies of another (validation.duplicates)",
    "leakage": "it ranks the outcome almost alone, as what is known only afterwards does (validation.leakage)",
}
"""What a share of rows is of, and the setting that decides about it."""


def told(outcome: CheckOutcome) -> str:
    """The outcome of one check at one client, in words."""
    where = f"{outcome.check}{f' in {outcome.column}' if outcome.column else ''}"
    what = MEANT.get(outcome.check, "")
    if outcome.measured is None:
        return where
    if outcome.check == "leakage":
        return f"{where}: {what}"
    return (
        f"{where}: {outcome.measured:.1%} of rows{f' +- {outcome.error:.1%}' if outcome.error else ''} {what}".rstrip()
    )


Event = (
    RunPlanned
    | StageStarted
    | StageFinished
    | StageBroken
    | GroupAgreed
    | RoundFinished
    | ClientExcluded
    | ClientWarned
    | BudgetAsked
    | Traffic
    | Notice
)

KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def event_of(fields: Mapping[str, Any]) -> Event | None:
    """The event that `fields` were written for, by the name in `event`; None: there is none of that name."""
    kind = KINDS.get(str(fields.get("event")))
    if kind is None:
        return None
    return kind(**{field.name: _frozen(fields[field.name]) for field in dataclasses.fields(kind)})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


Progress = Callable[[Event], None]


def in_turn(progress: Progress) -> Progress:
    """Stages tell from threads of their own; whoever shows it hears one event at a time."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            progress(event)

    return tell


def silent(event: Event) -> None:
    """Shows nothing."""
