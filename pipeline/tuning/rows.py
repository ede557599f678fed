"""Rows to try settings on: of a public table, or drawn from statistics that were paid for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.learning.columns.column import Column, Matrix
from pipeline.learning.features import FeatureSpec
from pipeline.learning.queries.statistics import Statistics
from privacy.errors import ColumnMissing, ConfigError, SourceMissing, TooFewRows
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 100


@dataclass(frozen=True)
class Examples:
    """features: float32 [rows, width]; targets: float32 [rows], finite."""

    features: Matrix
    targets: Matrix


def public(path: Path, spec: FeatureSpec) -> Examples:
    """Of a table that everybody may see. Raises SourceMissing, ColumnMissing, TooFewRows."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except Exception as error:  # of any kind: pandas and Arrow raise what they like
        raise SourceMissing(
            f"tuning.table {path} cannot be read: {type(error).__name__}: {error}", remedy="Give a CSV or Parquet file."
        ) from None
    missing = [name for name in (*spec.columns, spec.task.column) if name not in frame]
    if missing:
        raise ColumnMissing(
            f"tuning.table {path.name} has no column {', '.join(missing)}",
            remedy="A public table needs every column of data.columns, and the outcome.",
        )
    return _kept(frame, spec)


def _kept(frame: pd.DataFrame, spec: FeatureSpec) -> Examples:
    targets = spec.targets(frame)
    known = np.isfinite(targets)
    if known.sum() < FEWEST:
        raise TooFewRows(
            f"{int(known.sum())} rows of tuning.table have an outcome as it is declared; {FEWEST} are needed",
            remedy="Give a table whose outcomes are written as the contract says.",
        )
    return Examples(spec.matrix(frame[known]), targets[known])


def synthetic(
    question: Statistics, counts: Integers, spec: FeatureSpec, count: int, draw: np.random.Generator
) -> Examples:
    """`count` rows: an outcome by its share, then each column by itself, as it is distributed where that is the
    outcome. How columns hang together beyond the outcome is not known. It is post-processing of noisy counts: free.

    Raises ConfigError for a task or a column that no row can be drawn for.
    """
    import pandas as pd

    task = spec.task
    if task.breaks != "categories":  # its groups are no outcomes
        raise ConfigError(
            f"no rows can be drawn for a task of kind {task.kind}", remedy="Set tuning.on to public, with a table."
        )
    tables = question.tables(counts)
    groups = [k for k in range(len(question.groups)) if k != task.broken]
    weights = np.array([max(float(min(tables.values(), key=lambda t: t.size)[k].sum()), 0.0) for k in groups])
    if weights.sum() <= 0:
        raise ConfigError("the statistics say that there are no rows", remedy="Raise statistics.epsilon_share.")
    chosen = np.array(groups)[draw.choice(len(groups), count, p=weights / weights.sum())]
    frame = {}
    for name, column in spec.columns.items():
        cells = np.empty(count, dtype=object)
        for group in groups:
            here = chosen == group
            cells[here] = _drawn(name, column, tables[name][group], question.fine, int(here.sum()), draw)
        frame[name] = cells
    return Examples(spec.matrix(pd.DataFrame(frame)), chosen.astype(np.float32))


def _drawn(
    name: str, column: Column, counts: Integers, fine: int, count: int, draw: np.random.Generator
) -> list[object]:
    """Cells of one column where the outcome is one."""
    chances = np.maximum(counts.astype(np.float64), 0.0)
    if chances.sum() <= 0:
        chances = np.ones(len(chances))
    bins = draw.choice(len(chances), count, p=chances / chances.sum())
    edges, names = column.edges_of(fine), column.bin_names(fine)
    if edges is not None:
        return [_between(edges, k, draw) if k < fine else "" for k in bins.tolist()]
    if column.kind not in ("categorical", "boolean"):
        raise ConfigError(
            f"no rows can be drawn for column {name}: of {column.kind} the statistics say too little",
            remedy="Set tuning.on to public, with a table.",
        )
    if column.kind == "boolean":
        return [column.accepted({"true": True, "false": False}.get(names[k])) for k in bins.tolist()]
    return ["" if names[k].startswith("(") else names[k] for k in bins.tolist()]


def _between(edges: Floats, bin: int, draw: np.random.Generator) -> float:
    return float(draw.uniform(edges[bin], edges[bin + 1]))
