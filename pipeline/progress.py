"""What happens in a run, as events. Whoever shows them (a terminal, a log, JSON lines) decides how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
class Traffic:
    """Bytes of arrays that one request moved, all clients together."""

    up: int
    down: int


Event = (
    RunPlanned
    | StageStarted
    | StageFinished
    | StageBroken
    | GroupAgreed
    | RoundFinished
    | ClientExcluded
    | ClientWarned
    | Traffic
)

Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Shows nothing."""
