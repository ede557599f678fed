"""How each column is distributed, by outcome: one table of counts a column, from which everything else follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from pipeline.learning.columns.column import Column
from pipeline.learning.columns.scaling import quantiles
from pipeline.learning.queries.query import Measured, Query, Rows, share_error
from privacy.noise import Floats, Integers

QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
CERTAIN = 4.0
"""Deviations of the noise by which a count has to stand out for a share of it to be told."""


class Statistics(Query):
    """For each column counts [groups, bins] by outcome and bin. One record adds one to one cell of each column, so the
    norm is the root of the number of columns."""

    kind: Literal["statistics"] = "statistics"
    columns: dict[str, Column] = Field(min_length=1, description="Whose distribution is asked.")
    groups: tuple[str, ...] = Field(min_length=1, description="Names of the groups of outcomes.")
    fine: int = Field(ge=4, le=1000, description="Bins between the bounds of a column.")

    @property
    def size(self) -> int:
        return len(self.groups) * sum(column.bins(self.fine) for column in self.columns.values())

    @property
    def norm(self) -> float:
        return math.sqrt(len(self.columns))

    def count(self, rows: Rows, outputs: Floats) -> Integers:
        """Of raw rows; nothing was predicted of them."""
        if rows.frame is None or rows.groups is None:
            raise ValueError("statistics are of raw rows")
        parts = []
        for name, column in self.columns.items():
            table = np.zeros((len(self.groups), column.bins(self.fine)), dtype=np.int64)
            np.add.at(table, (rows.groups, column.binned(rows.frame[name], self.fine)), 1)
            parts.append(table.reshape(-1))
        return np.concatenate(parts)

    def tables(self, total: Integers) -> dict[str, Integers]:
        """Counts [groups, bins] of each column."""
        made, at = {}, 0
        for name, column in self.columns.items():
            shape = (len(self.groups), column.bins(self.fine))
            made[name] = total[at : at + math.prod(shape)].reshape(shape)
            at += math.prod(shape)
        return made

    def rows(self, total: Integers, noise: float) -> Measured:
        """How many records there are: every column counts every one, and those with few cells say it best."""
        tables = list(self.tables(total).values())
        weights = np.array([1 / table.size for table in tables])
        counted = np.array([float(table.sum()) for table in tables])
        rows = float((weights * counted).sum() / weights.sum())
        return Measured(max(rows, 1.0), noise / math.sqrt(float(weights.sum())))

    def read(self, total: Integers, noise: float) -> dict[str, Measured]:
        """rows; share[group]; of each column the shares of its names, or mean, deviation and quantiles, each as
        `metric[column]`; what is missing and what breaks the declaration."""
        rows = self.rows(total, noise)
        found = {"rows": rows}
        tables = self.tables(total)
        smallest = min(tables.values(), key=lambda table: table.size)
        for number, name in enumerate(self.groups):
            found[f"share[{name}]"] = self._share(float(smallest[number].sum()), smallest.shape[1], rows, noise)
        for name, column in self.columns.items():
            found |= dict(self._of_column(name, column, tables[name], rows, noise))
        return found

    def curves(self, total: Integers) -> dict[str, list[Any]]:
        """One line a column, group of outcomes and bin."""
        made: dict[str, list[Any]] = {"column": [], "outcome": [], "bin": [], "records": []}
        for name, table in self.tables(total).items():
            bins = self.columns[name].bin_names(self.fine)
            for group, counts in zip(self.groups, table.tolist(), strict=True):
                made["column"] += [name] * len(bins)
                made["outcome"] += [group] * len(bins)
                made["bin"] += bins
                made["records"] += counts
        return made

    def fitted(self, total: Integers) -> dict[str, Column]:
        """The columns with what their encodings waited for."""
        made = {}
        for name, table in self.tables(total).items():
            counts = table.sum(axis=0).astype(np.float64)
            made[name] = self.columns[name].fitted(counts[: self.fine] if self._ordered(name) else counts)
        return made

    def _ordered(self, name: str) -> bool:
        return self.columns[name].edges_of(self.fine) is not None

    def _of_column(
        self, name: str, column: Column, table: Integers, rows: Measured, noise: float
    ) -> Iterator[tuple[str, Measured]]:
        """noise: of one cell."""
        groups, counts, names = len(self.groups), table.sum(axis=0).astype(np.float64), column.bin_names(self.fine)
        edges = column.edges_of(self.fine)
        if edges is not None:
            each = noise * math.sqrt(groups)
            for metric, measured in _moments(edges, counts[: self.fine], each):
                yield f"{metric}[{name}]", measured
        for bin, told in enumerate(names):
            if edges is None or bin >= self.fine:
                yield f"share[{name}={told}]", self._share(float(counts[bin]), groups, rows, noise)

    def _share(self, count: float, cells: int, rows: Measured, noise: float) -> Measured:
        """Of a sum of so many cells; how many rows there are is known far better."""
        share = min(max(count / rows.value, 0.0), 1.0)
        error = share_error(share, rows.value, cells, 0, noise)
        return Measured(share, math.hypot(error, share * rows.error / rows.value))


def _moments(edges: Floats, counts: Floats, noise: float) -> Iterator[tuple[str, Measured]]:
    """Mean, deviation and quantiles of what was counted in bins; their width is part of each error."""
    rows, bins = float(counts.sum()), len(counts)
    if rows <= max(CERTAIN * noise * math.sqrt(bins), 1.0):
        return  # nothing can be told from the noise
    widths, middles = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    mean = float(np.clip((counts * middles).sum() / rows, edges[0], edges[-1]))
    away = (middles - mean) ** 2
    blur = float((np.clip(counts, 0, None) * widths).sum() / max(np.clip(counts, 0, None).sum(), 1.0)) / math.sqrt(12)
    variance = max(float((counts * away).sum() / rows), 0.0)
    deviation = min(math.sqrt(variance), float(edges[-1] - edges[0]) / 2)
    of_mean = math.sqrt(variance / rows + noise**2 * float(away.sum()) / rows**2)
    yield "mean", Measured(mean, math.hypot(of_mean, blur))
    fourth = max(float((counts * away**2).sum() / rows) - variance**2, 0.0)
    of_variance = math.sqrt(fourth / rows + noise**2 * float(((away - variance) ** 2).sum()) / rows**2)
    of_deviation = min(of_variance / max(2 * deviation, 1e-12), math.sqrt(of_variance))
    yield "deviation", Measured(deviation, math.hypot(of_deviation, blur))
    for metric, level in QUANTILES.items():
        below = level * bins
        of_level = math.sqrt(
            level * (1 - level) / rows + noise**2 * (below * (1 - level) ** 2 + (bins - below) * level**2) / rows**2
        )
        around = np.clip([level - of_level, level, level + of_level], 0.0, 1.0)
        low, value, high = quantiles(edges, counts, around)
        at = int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, bins - 1))
        yield metric, Measured(float(value), math.hypot(float(high - low) / 2, float(widths[at]) / math.sqrt(12)))
