"""What noisy counts of a snapshot say about it: OK, WARN or FAIL. Post-processing, so nothing here is charged.

Something is said only where it stands out from the noise by four deviations: among some hundred checks of a run, noise
alone raises none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.language.protocol import CheckOutcome
from pipeline.language.settings.validation import ValidationConfig
from pipeline.learning.columns.column import Column
from pipeline.learning.contract import DataContract
from pipeline.learning.queries.scores import metrics, roc_auc_error
from privacy.noise import Floats

CERTAIN = 4.0
"""Deviations of the noise."""

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class CheckCounts:
    """tables: for each column counts [groups, cells] by group of outcomes. sizes: rows of each group but the first.
    copies: rows that are exact copies of another. noise: deviation of the noise in each count."""

    contract: DataContract
    tables: Mapping[str, Floats]
    sizes: Floats
    copies: float
    noise: float

    @property
    def rows(self) -> float:
        """Every column counts every row; at least one."""
        return max(1.0, float(np.mean([table.sum() for table in self.tables.values()])))

    def deviation(self, counts: float) -> float:
        """Of the noise in a share that is a sum of so many counts."""
        return self.noise * math.sqrt(counts) / self.rows


def graded(counts: CheckCounts, limits: ValidationConfig) -> Iterator[CheckOutcome]:
    """The outcome of every check."""
    for name, column in counts.contract.columns.items():
        if (broken := column.broken) is not None:
            yield _declared(counts, name, column, broken, limits)
        if (lacking := column.lacking) is not None:
            yield _missing(counts, name, lacking, limits)
    yield from _outcomes(counts, limits)
    copies, error = _share(counts.copies, counts.rows), counts.deviation(1)
    yield _outcome("duplicates", _over(copies, error, limits.duplicates, "warn"), None, copies, error)
    for name, column in counts.contract.columns.items():
        power, error = _leak(counts, name, column)
        yield _outcome("leakage", _over(power, error, limits.leakage, "fail", inclusive=True), name, power, error)


def _declared(counts: CheckCounts, name: str, column: Column, broken: int, limits: ValidationConfig) -> CheckOutcome:
    """Values that break their declaration: out of bounds, or a name that was not declared."""
    bad = _share(float(counts.tables[name][:, broken].sum()), counts.rows)
    error = counts.deviation(counts.contract.task.groups)
    return _broken(column.breaks, name, bad, error, limits)


def _missing(counts: CheckCounts, name: str, lacking: int, limits: ValidationConfig) -> CheckOutcome:
    """A column that says hardly anything is, more often than not, one that could not be read."""
    share = _share(float(counts.tables[name][:, lacking].sum()), counts.rows)
    error = counts.deviation(counts.contract.task.groups)
    return _outcome("missing", _over(share, error, limits.missing, "fail"), name, share, error)


def _broken(breaks: str, name: str, bad: float, error: float, limits: ValidationConfig) -> CheckOutcome:
    limit = {"bounds": limits.out_of_bounds, "categories": limits.unknown_categories}[breaks]
    status = _over(bad, error, limit, "fail")
    if status == "ok":
        status = _over(bad, error, 0.0, "warn")
    return _outcome(breaks, status, name, bad, error)


def _outcomes(counts: CheckCounts, limits: ValidationConfig) -> Iterator[CheckOutcome]:
    """Outcomes that break their declaration, and classes that hardly occur."""
    task = counts.contract.task
    if task.broken is not None:
        bad = _share(float(counts.sizes[task.broken - 1]), counts.rows)
        yield _broken(task.breaks, task.column, bad, counts.deviation(1), limits)
    if not task.balanced:
        return
    others = [_share(float(size), counts.rows) for group, size in enumerate(counts.sizes, 1) if group != task.broken]
    first = max(0.0, 1 - sum(others) - (0.0 if task.broken is None else bad))
    shares = [first, *others]
    classes, error = len(shares), counts.deviation(1)
    rarest, rest = min(shares), 1 - max(shares)
    status: Status = "ok"
    limit = limits.minority_share * 2 / classes
    if rarest + CERTAIN * error < limit:
        status = "warn"
    if rest <= CERTAIN * error and CERTAIN * error < limit / 2:
        status = "fail"  # one class alone, as far as can be told
    yield _outcome("label-balance", status, task.column, rarest, error)


def _leak(counts: CheckCounts, name: str, column: Column) -> tuple[float, float]:
    """How well the column alone tells two groups of outcomes apart, or one class from all others."""
    task, table = counts.contract.task, counts.tables[name]
    kept = [group for group in range(task.groups) if group != task.broken]
    if len(kept) == 2:
        return ranking_power(table[kept], column, counts.noise)
    # The counts of all other classes together have the noise of each.
    noise = counts.noise * math.sqrt(len(kept) - 1)
    against = [np.stack([table[[k for k in kept if k != group]].sum(axis=0), table[group]]) for group in kept]
    return max(ranking_power(two, column, noise) for two in against)


def ranking_power(table: Floats, column: Column, noise: float) -> tuple[float, float]:
    """ROC-AUC of the outcome ranked by this column alone, in its better direction, and one standard error of it.

    table: counts [2, cells] of the records without it and with it.
    Cells that are lost in the noise are taken together: sorted by their share of positives they would rank by it.
    """
    kept = table[:, : column.ranking]
    totals = kept.sum(axis=0)
    clear = totals > CERTAIN * noise * math.sqrt(2)
    if clear.sum() < 2:
        return 0.5, 0.0
    cells = np.maximum(kept[:, clear], 0.0)
    if not column.ordered and not clear.all():
        cells = np.concatenate([cells, np.maximum(kept[:, ~clear].sum(axis=1, keepdims=True), 0.0)], axis=1)
    if column.ordered:
        power = metrics(cells[0], cells[1])["roc_auc"]
        cells = cells if power >= 0.5 else cells[:, ::-1]
    else:
        cells = cells[:, np.argsort(cells[1] / np.maximum(cells.sum(axis=0), 1.0))]
    return metrics(cells[0], cells[1])["roc_auc"], roc_auc_error(cells[0], cells[1], noise) if noise else 0.0


def _over(
    measured: float, error: float, limit: float, then: Literal["warn", "fail"], *, inclusive: bool = False
) -> Status:
    least = measured - CERTAIN * error
    return then if least > limit or (inclusive and least >= limit) else "ok"


def _outcome(check: str, status: Status, column: str | None, measured: float, error: float) -> CheckOutcome:
    return CheckOutcome(check=check, status=status, column=column, measured=round(measured, 6), error=round(error, 6))


def _share(count: float, rows: float) -> float:
    return min(1.0, max(0.0, count / rows))
