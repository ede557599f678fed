"""Accounting: what releases cost together. The only module that makes `dp_accounting` events.

PLD is what is reported and enforced. RDP is cheap and never below it. The Gaussian approximation (GDP) is *below* the
truth and is not offered.

What a release means never changes, because ledgers hold releases for ever: the five values of `Release` keep their
meaning, a mechanism's name is never used again for another one, and what is unknown is an error, never a guess.

>>> bool(7.0 < epsilon_of([Release("sampled-gaussian", 1.0, 0.1, 100)], delta=1e-5) < 7.1)
True
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Literal, get_args

from privacy.errors import PlanInvalid

Mechanism = Literal["sampled-gaussian", "gaussian", "discrete-gaussian", "none"]
Unit = Literal["record", "subject", "client"]

_TOLERANCE = 3e-3
"""A calibrated noise multiplier costs between (1 - tolerance) epsilon and epsilon."""
_INTERVAL, _COARSE = 1e-3, 1e-2
"""Grids of privacy losses: what is reported and enforced, and what a search begins on."""


@dataclass(frozen=True, order=True)
class Release:
    """Something that leaves a client's data, `count` times.

    noise_multiplier: standard deviation of the noise over the sensitivity. sampling_rate: probability with which
    a record takes part (Poisson), 1 for a plain Gaussian mechanism. unit: what is added or removed between
    neighbours. `subject` protects all records of one person, `client` all that a client holds. discrete-gaussian:
    `count` whole numbers of which a record changes each by one at most; noise_multiplier is the parameter of the
    discrete Gaussian that is added to each. The meaning of a release never changes: the ledger stores these values.
    """

    mechanism: Mechanism
    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1
    unit: Unit = "record"

    def __post_init__(self) -> None:
        """Raises ValueError for what no accountant here knows."""
        for what, known in ((self.mechanism, get_args(Mechanism)), (self.unit, get_args(Unit))):
            if what not in known:
                raise ValueError(f"unknown: {what!r}; known are {', '.join(known)}")
        if not (self.noise_multiplier >= 0 and 0 < self.sampling_rate <= 1 and self.count >= 1):
            raise ValueError("expected noise_multiplier >= 0, 0 < sampling_rate <= 1, count >= 1")

    def event(self) -> Any:
        """The `dp_accounting` event of this release; of a discrete Gaussian the continuous one, whose Renyi divergences
        are never below it (Canonne, Kamath and Steinke 2020, theorem 4)."""
        from dp_accounting import dp_event

        if self.mechanism == "none":
            return dp_event.NonPrivateDpEvent()
        single = dp_event.GaussianDpEvent(self.noise_multiplier)
        if self.mechanism == "sampled-gaussian":
            single = dp_event.PoissonSampledDpEvent(self.sampling_rate, single)
        return dp_event.SelfComposedDpEvent(single, self.count)

    def losses(self, interval: float) -> Any:
        """Its privacy loss distribution on a grid of `interval`, rounded so that it is never below the truth."""
        from dp_accounting.pld import privacy_loss_distribution as pld

        noise = self.noise_multiplier
        if self.mechanism == "gaussian":
            return pld.from_gaussian_mechanism(
                noise / math.sqrt(self.count), value_discretization_interval=interval, use_connect_dots=True
            )
        if self.mechanism == "sampled-gaussian":
            one = pld.from_gaussian_mechanism(
                noise,
                value_discretization_interval=interval,
                sampling_prob=self.sampling_rate,
                use_connect_dots=True,
            )
        else:
            one = pld.from_discrete_gaussian_mechanism(
                noise, value_discretization_interval=interval, use_connect_dots=True
            )
        return one.self_compose(self.count)


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Equal releases added up, sorted: the history as an order-free, hashable value."""
    counts: dict[Release, int] = {}
    for release in releases:
        one = replace(release, count=1)
        counts[one] = counts.get(one, 0) + release.count
    return tuple(sorted(replace(one, count=count) for one, count in counts.items()))


def epsilon_of(releases: Iterable[Release], delta: float, accountant: Literal["pld", "rdp"] = "pld") -> float:
    """Epsilon at `delta` of all `releases` composed. PLD is what is reported; RDP is never below it, and cheap."""
    return _epsilon(merged(releases), delta, accountant)


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Release, ...], delta: float, accountant: str) -> float:
    if not history:
        return 0.0
    if any(release.mechanism == "none" for release in history):
        return math.inf
    if accountant == "pld":
        return _pld(history, delta, _INTERVAL)
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    curves = [(release.count, *_rdp_curve(replace(release, count=1))) for release in history]
    return float(compute_epsilon(curves[0][1], sum(count * curve for count, _, curve in curves), delta)[0])


def _pld(history: Iterable[Release], delta: float, interval: float) -> float:
    """Privacy loss distributions composed on a grid of `interval`: an upper bound, the closer the finer the grid."""
    composed: Any = None
    for release in history:
        losses = _losses(release, interval)
        composed = losses if composed is None else composed.compose(losses)
    return float(composed.get_epsilon_for_delta(delta))


@lru_cache(maxsize=16)
def _losses(release: Release, interval: float) -> Any:
    """Kept for what stands beside the release that is searched for, and for a ledger that is asked again."""
    return release.losses(interval)


@lru_cache(maxsize=256)
def _rdp_curve(release: Release) -> tuple[Any, Any]:
    """Orders, and the Renyi divergence of one such release at each. Linear in the count: composing costs nothing."""
    from dp_accounting.rdp import RdpAccountant

    composed = RdpAccountant()
    chatter = logging.getLogger("absl")  # leaves out an order that does not converge, and says so each time
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        composed.compose(release.event())
    finally:
        chatter.setLevel(level)
    return composed.orders, composed.rdp


def calibrate(
    epsilon: float,
    delta: float,
    sampling_rate: float,
    count: int,
    mechanism: Mechanism | None = None,
    beside: tuple[Release, ...] = (),
) -> float:
    """A noise multiplier with which `count` sampled Gaussians cost `epsilon`, and at most 0.3 % less.

    mechanism: another one than the (sampled) Gaussian. beside: what reads the same records and is paid from the same
    epsilon. Raises PlanInvalid when epsilon or delta is out of range or no noise below 10^5 suffices.
    """
    if not epsilon > 0 or not math.isfinite(epsilon):
        raise PlanInvalid(
            f"expected epsilon > 0, got {epsilon}",
            remedy="Choose a positive epsilon, or `privacy: none`.",
            travels=True,
        )
    if not 0 < delta < 1:
        raise PlanInvalid(
            f"expected 0 < delta < 1, got {delta}", remedy="Choose a delta well below 1/rows.", travels=True
        )
    chosen: Mechanism = mechanism or ("sampled-gaussian" if sampling_rate < 1 else "gaussian")
    found = _calibrated(epsilon, delta, Release(chosen, 0.0, sampling_rate, count), beside)
    if isinstance(found, PlanInvalid):
        raise PlanInvalid(found.cause, remedy=found.remedy, travels=found.travels)
    return found


@lru_cache(maxsize=4096)
def _calibrated(epsilon: float, delta: float, wanted: Release, beside: tuple[Release, ...]) -> float | PlanInvalid:
    """What was searched for once, also in vain: that takes longest."""

    @cache
    def cost(noise: float, interval: float = _INTERVAL) -> float:
        return _pld((replace(wanted, noise_multiplier=noise), *beside), delta, interval)

    # A coarse grid of privacy losses is six times cheaper and off by a nearly constant factor: search there, and let
    # the fine grid have the last word.
    factor, coarse = 1.0, min(_COARSE, epsilon / 100)
    try:
        for _ in range(3 if coarse > _INTERVAL else 0):
            noise = _search(partial(_scaled, cost, coarse, factor), epsilon * (1 - 0.2 * _TOLERANCE), 0.1 * _TOLERANCE)
            if epsilon * (1 - _TOLERANCE) <= cost(noise) <= epsilon:
                return noise
            factor = cost(noise) / cost(noise, coarse)
        return _search(cost, epsilon, _TOLERANCE / 3)
    except PlanInvalid as error:
        return error


def _scaled(cost: Callable[[float, float], float], interval: float, factor: float, noise: float) -> float:
    return factor * cost(noise, interval)


def _search(cost: Callable[[float], float], epsilon: float, tolerance: float) -> float:
    """Smallest noise, to a relative tolerance, at which the falling `cost` is at most epsilon. Raises PlanInvalid."""
    low, high = (0.0, math.inf), (1.0, cost(1.0))  # (noise, its epsilon): too little, and enough
    while high[1] > epsilon:
        low, high = high, (high[0] * 2, cost(high[0] * 2))
        if high[0] > 1e5:
            raise PlanInvalid(
                f"no noise multiplier below 1e5 reaches epsilon {epsilon:g}",
                remedy="Raise epsilon, or take fewer rounds or epochs.",
                travels=True,
            )
    while high[0] - low[0] > tolerance * high[0]:
        tried = _between(low, high, epsilon, 0.4 * tolerance * high[0])
        found = (tried, cost(tried))
        low, high = (low, found) if found[1] <= epsilon else (found, high)
    return high[0]


def _between(low: tuple[float, float], high: tuple[float, float], epsilon: float, margin: float) -> float:
    """Where to look next: epsilon is nearly a power of the noise, so the line between the logarithms is close.

    The step aims `margin` to the far side of what it expects, so that the bracket closes from both ends.
    """
    middle = (low[0] + high[0]) / 2
    if not (low[0] > 0 and math.isfinite(low[1]) and 0 < high[1] < low[1]):
        return middle
    slope = math.log(high[0] / low[0]) / math.log(high[1] / low[1])
    expected = low[0] * math.exp(slope * math.log(epsilon / low[1]))
    aimed = expected + margin if high[0] - expected > expected - low[0] else expected - margin
    return min(max(aimed, low[0] + margin), high[0] - margin)
