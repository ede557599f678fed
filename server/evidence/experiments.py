"""What outcomes say of versions that were tried against each other.

Two kinds of evidence. Where subjects were divided among versions, each outcome is of one of them, and what a version's
answer did to the outcome counts. Where a version was only asked too, both are judged by the same outcome: far fewer are
needed, but what its answer would have done is not in them. A subject counts once, with its first outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from server.evidence.outcomes import Outcome
from server.evidence.sequences import Interval, difference, mean_sequence, mismatch, needed

ALPHA = 0.05
"""Probability, at most, with which any interval of a comparison ever misses."""
SUSPICIOUS = math.log(1000)
"""Evidence, as a logarithm, at which subjects did not fall into the versions by their shares."""

Verdict = Literal["promote", "keep", "undecided", "broken"]


@dataclass(frozen=True)
class Comparison:
    """Of a challenger with the version that it may follow.

    kind: split, subjects were divided; shadow, both were asked. difference: of their penalties, the challenger's less
    the other's: below 0 it is better. subjects: counted, by version. deviation: of what the difference is a mean of.
    widest: how far apart such values can be.
    """

    kind: Literal["split", "shadow"]
    name: str
    champion: int
    challenger: int
    began: float
    latest: float
    subjects: Mapping[int, int]
    penalties: Mapping[int, float]
    difference: Interval
    deviation: float
    widest: float
    mismatch: float
    alpha: float

    @property
    def verdict(self) -> Verdict:
        if self.mismatch >= SUSPICIOUS:
            return "broken"
        if self.difference.high < 0:
            return "promote"
        return "keep" if self.difference.low > 0 else "undecided"

    @property
    def why(self) -> str:
        """In words."""
        shown = self.difference
        if self.verdict == "broken":
            counted = ", ".join(f"v{version} {count}" for version, count in self.subjects.items())
            return f"subjects did not fall into the versions by their shares ({counted}): no difference can be believed"
        if shown.count == 0:
            return "no outcome has come yet"
        told = f"{shown.mean:+.4f}, from {shown.low:+.4f} to {shown.high:+.4f}"
        if self.verdict == "promote":
            return f"v{self.challenger} is better: {told}"
        if self.verdict == "keep":
            return f"v{self.challenger} is worse: {told}"
        return f"neither is better for certain: {told}"

    def more(self, effect: float) -> int | None:
        """About how many more subjects until a difference of `effect` shows; None: very many."""
        count = needed(effect, self.deviation, self.widest, self.alpha)
        return None if count is None else max(0, count - self.difference.count)


def comparisons(outcomes: Sequence[Outcome], alpha: float = ALPHA) -> list[Comparison]:
    """All that the outcomes of one model, in the order in which they came, are evidence for; the latest first."""
    found = [*_splits(outcomes, alpha), *_shadows(outcomes, alpha)]
    return sorted(found, key=lambda comparison: -comparison.latest)


def _splits(outcomes: Sequence[Outcome], alpha: float) -> Iterator[Comparison]:
    drawn: dict[tuple[str, int], dict[str, Outcome]] = {}
    for one in outcomes:
        if one.experiment:
            drawn.setdefault((one.experiment, next(iter(one.shares))), {}).setdefault(one.unit, one)
    for (name, champion), subjects in drawn.items():
        units = list(subjects.values())
        suspicion = _suspicion(units)
        challengers = dict.fromkeys(arm for one in units for arm in one.shares if arm != champion)
        for challenger in challengers:
            pair = (champion, challenger)
            both = [one for one in units if one.version in pair and min(one.shares.get(arm, 0.0) for arm in pair) > 0]
            if both:
                yield _split(name, champion, challenger, both, suspicion, alpha / len(challengers))


def _split(
    name: str, champion: int, challenger: int, units: Sequence[Outcome], suspicion: float, alpha: float
) -> Comparison:
    chosen = np.array([one.version == challenger for one in units])
    values = np.array([one.penalties[one.version] for one in units])
    shares = np.array([one.shares[challenger] / (one.shares[challenger] + one.shares[champion]) for one in units])
    arms = {champion: values[~chosen], challenger: values[chosen]}
    spread = [float(of.var()) if len(of) else 0.25 for of in arms.values()]
    share = float(shares[-1])
    return Comparison(
        kind="split",
        name=name,
        champion=champion,
        challenger=challenger,
        began=min(one.asked for one in units),
        latest=max(one.received for one in units),
        subjects={arm: len(of) for arm, of in arms.items()},
        penalties={arm: float(of.mean()) for arm, of in arms.items() if len(of)},
        difference=difference(chosen, shares, values, alpha),
        deviation=math.sqrt(spread[0] / (1 - share) + spread[1] / share),
        widest=2 / min(share, 1 - share),
        mismatch=suspicion,
        alpha=alpha,
    )


def _suspicion(units: Sequence[Outcome]) -> float:
    """While the shares were the same the evidence is one number; over several it adds up."""
    periods: dict[tuple[tuple[int, float], ...], dict[int, int]] = {}
    for one in units:
        counts = periods.setdefault(tuple(one.shares.items()), {})
        counts[one.version] = counts.get(one.version, 0) + 1
    return sum(mismatch(counts, dict(shares)) for shares, counts in periods.items())


def _shadows(outcomes: Sequence[Outcome], alpha: float) -> Iterator[Comparison]:
    pairs: dict[tuple[int, int], dict[str, Outcome]] = {}
    for one in outcomes:
        for other in one.penalties:
            if other != one.version:
                pairs.setdefault((one.version, other), {}).setdefault(one.unit, one)
    for (champion, challenger), subjects in pairs.items():
        units, others = list(subjects.values()), sum(pair[0] == champion for pair in pairs)
        values = np.array([one.penalties[challenger] - one.penalties[champion] for one in units])
        yield Comparison(
            kind="shadow",
            name=f"v{champion}-v{challenger}",
            champion=champion,
            challenger=challenger,
            began=min(one.asked for one in units),
            latest=max(one.received for one in units),
            subjects={champion: len(units), challenger: len(units)},
            penalties={arm: float(np.mean([one.penalties[arm] for one in units])) for arm in (champion, challenger)},
            difference=mean_sequence(values, 2.0, alpha / others),
            deviation=float(values.std()),
            widest=2.0,
            mismatch=-math.inf,
            alpha=alpha / others,
        )
