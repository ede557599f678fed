"""Which records a release read, and what the most exposed record was exposed to.

Every record has one place in the hash space [0, 1) (see clients/ingestion.py). A population is an interval of it, so
that releases on disjoint intervals compose in parallel. Its `basis` names the columns the places were computed from:
under another basis a record may lie elsewhere, so intervals of different bases never count as disjoint.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from privacy.accounting import Release

MAX_KINDS = 64
"""Beyond so many kinds of records their exposures are not told apart but all added up."""


@dataclass(frozen=True)
class Population:
    """The records a release read: those whose place lies in [low, high)."""

    low: float = 0.0
    high: float = 1.0
    basis: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError("expected 0 <= low < high <= 1")


EVERYONE = Population()


class Charge(NamedTuple):
    """Releases, and whose records they read."""

    releases: Sequence[Release]
    population: Population = EVERYONE


def exposures(charges: Iterable[Charge]) -> Iterator[list[Release]]:
    """What each kind of record was exposed to: a kind is a choice of one smallest interval in every basis."""
    charges = list(charges)
    bases: dict[str, list[Charge]] = {}
    for charge in charges:
        bases.setdefault(charge.population.basis, []).append(charge)
    choices: list[list[list[Release]]] = []
    for members in bases.values():
        edges = sorted({edge for _, population in members for edge in (population.low, population.high)})
        choices.append(
            [
                [
                    release
                    for releases, population in members
                    if population.low <= low and high <= population.high
                    for release in releases
                ]
                for low, high in itertools.pairwise(edges)
            ]
        )
    if math.prod(len(choice) for choice in choices) > MAX_KINDS:
        yield [release for releases, _ in charges for release in releases]  # an upper bound
        return
    for kind in itertools.product(*choices):
        yield [release for interval in kind for release in interval]
