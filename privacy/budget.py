"""What a run spends, as a list of lines, and what each line releases so that together they cost one epsilon.

A line with a share costs, alone, that part of epsilon. The others get all that is left for whoever they read: they are
calibrated together with every line that reads the same records, to the whole of epsilon. That is far cheaper than to
cut epsilon up, because independent noises compose nearly in squares: beside lines of 0.3 and 0.5 the rest is 0.75 of
epsilon, not 0.2. The noise of an earlier line follows from its own share and from no later line, so that an answer
that was paid for stays one when a later stage changes.

>>> lines = [Line("statistics", "training", share=0.3), Line("training", "training", batch=100, epochs=1, rounds=10)]
>>> made = together(3.0, 1e-5, lines, rows=1000)
>>> bool(2.99 <= epsilon_of(made.values(), 1e-5) <= 3.0)
True
>>> bool(epsilon_of([made["training"]], 1e-5) > 2.7)
True
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from privacy.accounting import Mechanism, Release, calibrate, epsilon_of
from privacy.errors import PlanInvalid
from privacy.population import EVERYONE, Population

Reads = Literal["training", "held-out", "everyone", "client"]
"""Records above the hold-out, below it, or all; or, at client level, whatever one client has."""
Unit = Literal["record", "subject"]
LEFT = 0.01
"""Of epsilon that shares have to leave, where a line takes the rest."""


@dataclass(frozen=True)
class Line:
    """One thing that a run spends on.

    purpose: the stage that spends. reads: whose records. share: the part of epsilon that it costs alone, in (0, 1);
    None: whatever the others leave. rounds: sums that it consists of. batch: expected batch of DP-SGD that takes
    `epochs` in each round; 0: no steps, but vectors of whole numbers, of which one record changes `touched` by one each
    (norm 1), or the whole by an L2 norm of at most `norm`. shared: clients share the noise of its sums. Then counts are
    of many levels each, and so fine a discrete Gaussian costs what a Gaussian does.
    """

    purpose: str
    reads: Reads
    share: float | None = None
    rounds: int = 1
    batch: int = 0
    epochs: int = 0
    touched: int = 1
    norm: float = 1.0
    shared: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a line that means nothing."""
        if self.reads not in get_args(Reads) or not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", self.purpose):
            raise ValueError(f"expected a purpose that reads one of {', '.join(get_args(Reads))}")
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"expected 0 < share < 1, got {self.share}")
        if min(self.rounds, self.touched) < 1 or self.batch < 0 or (self.batch > 0) != (self.epochs > 0):
            raise ValueError("expected rounds, touched >= 1, and batch and epochs both or neither")
        if not (0 < self.norm < math.inf):
            raise ValueError(f"expected a positive norm, got {self.norm}")

    def release(self, rows: int, noise: float, unit: Unit = "record") -> Release:
        """What it releases of a client that declares so many training rows; noise: over what one record changes, or one
        client."""
        if self.reads == "client":
            return Release("gaussian", noise, 1.0, self.rounds, "client")
        if self.batch:
            _, rate, steps = steps_of(rows, self.batch, self.epochs)
            return Release("sampled-gaussian" if rate < 1 else "gaussian", noise, rate, steps * self.rounds, unit)
        return Release(self.mechanism or "gaussian", noise, 1.0, self.touched * self.rounds, unit)

    @property
    def mechanism(self) -> Mechanism | None:
        """None: the (sampled) Gaussian, whichever the sampling rate says."""
        if self.batch:
            return None
        return "discrete-gaussian" if self.norm == 1 and not self.shared else "gaussian"

    def meets(self, other: Line) -> bool:
        """Whether there may be a record that both read."""
        whole = ("everyone", "client")
        return self.reads == other.reads or self.reads in whole or other.reads in whole

    def population(self, holdout: float, basis: str) -> Population:
        """The records it reads, where those whose place is below `holdout` are held out."""
        if self.reads in ("everyone", "client"):
            return EVERYONE
        low, high = (holdout, 1.0) if self.reads == "training" else (0.0, holdout)
        return Population(low, high, basis)


def steps_of(examples: int, expected_batch: int, epochs: int) -> tuple[int, float, int]:
    """Expected batch, sampling rate and steps of a round. Steps are rounded up from rows over batch, never derived from
    1/len(loader): that loses steps. Raises PlanInvalid."""
    if examples < 1:
        raise PlanInvalid("the client declares no training rows", travels=True)
    batch = min(expected_batch, examples)
    return batch, batch / examples, math.ceil(epochs * examples / batch)


def together(
    epsilon: float, delta: float, lines: Sequence[Line], rows: int, unit: Unit = "record"
) -> dict[str, Release]:
    """What each line releases, by its purpose; for no record all of it costs more than (epsilon, delta).

    rows: training rows, or persons, that the client declares. Raises PlanInvalid when the shares leave nothing, when
    two lines want what is left of the same records, or two have one purpose.
    """
    made = affordable(epsilon, delta, lines, rows, unit)
    for line in lines:
        if line.share is None:
            wanted = line.release(rows, 0.0, unit)
            others = beside(lines, made, line.purpose)
            noise = calibrate(epsilon, delta, wanted.sampling_rate, wanted.count, line.mechanism, others)
            made[line.purpose] = line.release(rows, noise, unit)
    return {line.purpose: made[line.purpose] for line in lines}


def affordable(
    epsilon: float, delta: float, lines: Sequence[Line], rows: int, unit: Unit = "record"
) -> dict[str, Release]:
    """What the lines with a share release, if they leave something for those without: far cheaper than `together`.

    Raises PlanInvalid as `together` does.
    """
    check(lines)
    made = {
        line.purpose: line.release(rows, _alone(line, line.share * epsilon, delta, rows), unit)
        for line in lines
        if line.share is not None
    }
    for reads in ("training", "held-out"):
        read = [line for line in lines if line.reads in (reads, "everyone")]
        shares, rest = [line for line in read if line.share is not None], [line for line in read if line.share is None]
        cost = epsilon_of([made[line.purpose] for line in shares], delta)
        if rest and cost > epsilon * (1 - LEFT):
            told = ", ".join(f"{line.purpose} {line.share:g}" for line in shares)
            raise PlanInvalid(
                f"beside the shares of {told} nothing is left of epsilon for {rest[0].purpose}",
                remedy="Lower one of these shares, or raise epsilon.",
                travels=True,
            )
        if cost > epsilon:
            raise PlanInvalid(
                f"{' and '.join(line.purpose for line in shares)} cost epsilon {cost:.3g} together, and the run has "
                f"{epsilon:g}",
                remedy="Lower one of their shares.",
                travels=True,
            )
    return made


def by_clients(epsilon: float, delta: float, lines: Sequence[Line], noise: float) -> dict[str, Release]:
    """What each line releases where whole clients are protected by noise that a cohort shares, which suffices for all
    of them or for none. Raises PlanInvalid."""
    check(lines)
    made = {line.purpose: line.release(1, noise) for line in lines}
    if any(line.reads != "client" for line in lines) or epsilon_of(made.values(), delta) > epsilon:
        raise PlanInvalid(f"the noise multiplier {noise:.3f} costs more than epsilon {epsilon:g}", travels=True)
    return made


def beside(lines: Sequence[Line], made: Mapping[str, Release], purpose: str) -> tuple[Release, ...]:
    """What the lines with a share release of the records that the line of `purpose` reads, its own left out."""
    (own,) = (line for line in lines if line.purpose == purpose)
    return tuple(made[line.purpose] for line in lines if line.share is not None and line is not own and line.meets(own))


def check(lines: Sequence[Line]) -> None:
    """Raise PlanInvalid for lines that no charge could be computed from."""
    if len({line.purpose for line in lines}) < len(lines):
        raise PlanInvalid("two lines of the budget have one purpose", travels=True)
    rest = [line for line in lines if line.share is None and line.reads != "client"]
    for number, line in enumerate(rest):
        for other in rest[number + 1 :]:
            if line.meets(other):
                raise PlanInvalid(
                    f"{line.purpose} and {other.purpose} both take all that is left of the budget of the same records",
                    remedy="Give one of them a share.",
                    travels=True,
                )


def _alone(line: Line, epsilon: float, delta: float, rows: int) -> float:
    wanted = line.release(rows, 0.0)
    return calibrate(epsilon, delta, wanted.sampling_rate, wanted.count, line.mechanism)
