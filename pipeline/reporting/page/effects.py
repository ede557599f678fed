"""Plots of what an additive model says: the effect of each column, and of each pair, with the error of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from pipeline.reporting.page.chart import Bars, Grid, Plot, Series, barred, drawn, gridded

SURE = 1.96
"""Standard errors of a 95 % interval."""
LONGEST = 24
"""Characters of a name."""
NAMES, SHOWN = 12, 24
"""Names of a column, and plots of a page, at most: those with most records, and those that say most."""


def effects(document: Mapping[str, Any]) -> list[Markup]:
    """Those that say most, in the order of the columns; of several outputs, one series each."""
    found = list(document["effects"])
    size = [_size(effect) for effect in found]
    kept = sorted(sorted(range(len(found)), key=lambda place: -size[place])[:SHOWN])
    return [_drawn(found[place]) for place in kept]


def _drawn(effect: Mapping[str, Any]) -> Markup:
    if len(effect["columns"]) == 2:
        return _pair(effect)
    return _names(effect) if effect["kind"][0] == "names" else _quantity(effect)


def _title(effect: Mapping[str, Any]) -> str:
    return " and ".join(effect["columns"]) + (f" ({effect['part']})" if effect["part"] else "")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _size(effect: Mapping[str, Any]) -> float:
    """Mean distance from zero, over the records."""
    records, rows = _flat(effect["records"]), sum(map(abs, _flat(effect["records"]))) or 1.0
    return sum(
        sum(abs(value) * max(count, 0.0) for value, count in zip(_flat(output), records, strict=True)) / rows
        for output in effect["effect"]
    )


def _flat(values: Sequence[Any]) -> list[float]:
    return [one for row in values for one in row] if values and isinstance(values[0], list) else list(values)


def _quantity(effect: Mapping[str, Any]) -> Markup:
    labels, edges = effect["labels"][0], effect["edges"][0]
    ordered = len(labels) - 1
    x = [(low + high) / 2 for low, high in pairwise(edges)] or [k + 0.5 for k in range(ordered)]
    series = []
    for number, (values, errors) in enumerate(zip(effect["effect"], effect["error"], strict=True)):
        y, off = values[:ordered], [SURE * error for error in errors[:ordered]]
        low, high = [v - e for v, e in zip(y, off, strict=True)], [v + e for v, e in zip(y, off, strict=True)]
        band = len(effect["effect"]) == 1
        series.append(Series(f"output {number}", x, y, low if band else (), high if band else ()))
    rest = f" {labels[-1]}: {effect['effect'][0][-1]:+.2f}."
    plot = Plot(
        title=_title(effect),
        said=f"What its values add, with 95 % bands; zero is the mean over the records.{rest}",
        x_title=effect["columns"][0] if edges else f"{effect['part'] or effect['columns'][0]}, part",
        y_title="added",
        series=series,
        level=0.0,
    )
    return drawn(plot)


def _names(effect: Mapping[str, Any]) -> Markup:
    labels, records = effect["labels"][0], effect["records"]
    fullest = sorted(sorted(range(len(labels)), key=lambda place: -records[place])[:NAMES])
    if len(effect["effect"]) > 1:
        return _grid(effect, [_short(labels[k]) for k in fullest], [[o[k] for k in fullest] for o in effect["effect"]])
    values, errors = [effect["effect"][0][k] for k in fullest], [effect["error"][0][k] for k in fullest]
    least = min(0.0, *values)
    bars = Bars(
        title=_title(effect),
        said="What each name adds; zero is the mean over the records.",
        names=[_short(labels[k]) for k in fullest],
        values=[abs(value) for value in values],
        texts=[f"{value:+.2f} ± {SURE * error:.2f}" for value, error in zip(values, errors, strict=True)],
        starts=[min(value, 0.0) - least for value in values],
    )
    return barred(bars)


def _pair(effect: Mapping[str, Any]) -> Markup:
    rows, columns = effect["labels"]
    values = effect["effect"][0]
    kept = (
        [k for k, name in enumerate(rows) if name != "(none)"],
        [k for k, name in enumerate(columns) if name != "(none)"],
    )
    table = [[values[i][k] for k in kept[1]] for i in kept[0]]
    return _shaded(
        _title(effect), [rows[i] for i in kept[0]], [columns[k] for k in kept[1]], table, effect["columns"][1]
    )


def _grid(effect: Mapping[str, Any], names: Sequence[str], table: Sequence[Sequence[float]]) -> Markup:
    outputs = [f"output {number}" for number in range(len(table))]
    turned = [[row[k] for row in table] for k in range(len(names))]
    return _shaded(_title(effect), names, outputs, turned, "")


def _shaded(
    title: str, rows: Sequence[str], columns: Sequence[str], table: Sequence[Sequence[float]], column_title: str
) -> Markup:
    """Darker is more; what each adds is written in."""
    flat = [value for row in table for value in row]
    low, high = min(flat), max(flat)
    span = (high - low) or 1.0
    grid = Grid(
        title=title,
        said="What each two add beside their own effects; darker is more.",
        rows=rows,
        columns=columns,
        values=[[(value - low) / span for value in row] for row in table],
        texts=[[f"{value:+.1f}" for value in row] for row in table],
        column_title=column_title,
    )
    return gridded(grid)
