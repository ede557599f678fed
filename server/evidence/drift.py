"""How far what a version is asked about lies from what it was trained on, by statistics that were paid for then.

The measure is the population stability index: the sum over bins of (p - q) log(p / q). Bins are merged until each
stands out from the noise in the reference, and what chance alone would give is taken off before anything is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.kinds import INSTALLED
from pipeline.stages.values import StatisticsReport
from pipeline.store.registry import Registered
from privacy.noise import Floats

FILE = "statistics.json"
PLAIN = 6.0
"""Deviations of its noise by which a bin of the reference has to stand out."""
MOST = 20
"""Bins at most: more would measure chance."""
CHANCE = 3.0
"""How many times what chance would give is taken for chance."""


@dataclass(frozen=True)
class Drift:
    """Of one column. psi: of what was asked lately; chance: what the index would be if nothing had moved."""

    column: str
    psi: float
    chance: float
    rows: int
    farthest: str

    def moved(self, most: float) -> bool:
        return self.psi > most + CHANCE * self.chance

    @property
    def words(self) -> str:
        return (
            f"inputs of {self.column} moved: index {self.psi:.2f}, by chance {self.chance:.2f}, most of it in "
            f"{self.farthest}"
        )


def reference_of(version: Registered) -> StatisticsReport | None:
    """What its training data was like; None: nobody paid for that. Raises VersionRefused for an altered file."""
    if FILE not in version.digests:
        return None
    return StatisticsReport.model_validate_json(version.read(FILE), context=INSTALLED)


def drifts(reference: StatisticsReport, lately: Sequence[Mapping[str, Sequence[int]]]) -> list[Drift]:
    """Of each column that can be compared, the farthest first. lately: counts by column, of each replica."""
    question = reference.question
    if question is None:
        return []
    tables, found = question.tables(np.array(reference.counts, dtype=np.int64)), []
    for name, column in question.columns.items():
        names = column.bin_names(question.fine)
        every = [one[name] for one in lately if len(one.get(name, ())) == len(names)]
        if every:
            then, now = tables[name].sum(axis=0).astype(np.float64), np.sum(np.array(every, dtype=np.float64), axis=0)
            noise = reference.noise * math.sqrt(len(question.groups))
            ordered = question.fine if column.edges_of(question.fine) is not None else 0
            if now.sum() and (drift := _drift(name, then, now, noise, ordered, names)):
                found.append(drift)
    return sorted(found, key=lambda drift: drift.chance - drift.psi)


def _drift(name: str, then: Floats, now: Floats, noise: float, ordered: int, names: Sequence[str]) -> Drift | None:
    groups = _merged(then, noise, ordered)
    if len(groups) < 2:
        return None
    # What was too rare to stand out may have been as frequent as that: it is no news while it is not more.
    counted = np.array([then[group].sum() for group in groups])
    old = np.maximum(counted, [max(PLAIN * noise * math.sqrt(len(group)), 0.5) for group in groups])
    new = np.array([now[group].sum() for group in groups])
    sizes = np.array([len(group) for group in groups])
    # Half a record in each, so that an empty bin is rare and not impossible.
    p, q = (new + 0.5) / (new.sum() + 0.5 * len(groups)), old / old.sum()
    parts = np.where((old > counted) & (p < q), 0.0, (p - q) * np.log(p / q))
    variance = q * (1 - q) / new.sum() + q * (1 - q) / old.sum() + noise**2 * sizes / old.sum() ** 2
    worst = groups[int(parts.argmax())]
    told = names[worst[0]] if len(worst) == 1 else f"{names[worst[0]]} to {names[worst[-1]]}"
    return Drift(name, float(parts.sum()), float((variance / q).sum()), int(new.sum()), told)


def _merged(then: Floats, noise: float, ordered: int) -> list[list[int]]:
    """Bins together that stand out from the noise. ordered: how many of the first follow one another; those are merged
    with their neighbours, names with the other rare ones."""
    least = max(float(np.clip(then, 0, None).sum()) / MOST, 1.0)

    def plain(group: Sequence[int]) -> bool:
        count = float(then[list(group)].sum())
        return count >= PLAIN * noise * math.sqrt(len(group)) and count >= least

    groups: list[list[int]] = []
    open_group: list[int] = []
    for bin in range(ordered):
        open_group.append(bin)
        if plain(open_group):
            groups.append(open_group)
            open_group = []
    if open_group and groups:
        groups[-1] += open_group
    rare = [bin for bin in range(ordered, len(then)) if not plain([bin])]
    groups += [[bin] for bin in range(ordered, len(then)) if plain([bin])]
    return [*groups, rare] if rare else groups
