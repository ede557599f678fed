"""How the data of all clients is distributed, as a run's statistics say: one line a column, with errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.learning.queries.query import Measured
from pipeline.learning.queries.statistics import CERTAIN, Statistics
from pipeline.stages.values import StatisticsReport
from privacy.noise import Floats

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH = 32
NAMES = 4
"""How many names of a column are told, from the most frequent."""


def figures(report: StatisticsReport) -> dict[str, dict[str, float]]:
    """For machines: each figure with its error."""
    return {name: {"value": found.value, "error": found.error} for name, found in report.measured().items()}


def print_distributions(report: StatisticsReport, console: Console) -> None:
    """On a terminal or off it."""
    from rich.markup import escape

    question = report.question
    if question is None:
        console.print("  nobody asked: set statistics.epsilon_share above 0")
        return
    measured, tables = report.measured(), question.tables(np.array(report.counts))
    console.print(
        f"  {_told(measured['rows'])} training rows of {len(report.clients)} clients; noise of each count "
        f"{report.noise:.3g}"
    )
    outcomes = [f"{name} {_told(measured[f'share[{name}]'])}" for name in question.groups]
    console.print(f"  {escape('   '.join(outcomes))}")
    for name in question.columns:
        counts = tables[name].sum(axis=0).astype(np.float64)
        console.print(f"\n  [bold]{escape(name)}[/]   {_picture(question, name, counts, report.noise)}")
        console.print(f"    {escape(_words(question, name, measured))}")
    console.print("\n  +- one standard error, of sampling, of privacy noise and of the width of a bin")


def _picture(question: Statistics, name: str, counts: Floats, noise: float) -> str:
    """Bars of what is counted between the bounds, or of the most frequent names; what noise hides is blank."""
    if question.columns[name].edges_of(question.fine) is not None:
        parts = np.array_split(counts[: question.fine], min(WIDTH, question.fine))
        bars = np.array([part.sum() for part in parts])
        hidden = noise * np.sqrt([len(part) * len(question.groups) for part in parts])
    else:
        bars = np.sort(counts)[::-1][:WIDTH]
        hidden = np.full(len(bars), noise * np.sqrt(len(question.groups)))
    heights = np.where(bars > CERTAIN / 2 * hidden, bars, 0.0)
    steps = np.ceil(heights / max(float(heights.max(initial=0.0)), 1.0) * (len(BLOCKS) - 1)).astype(int)
    return "".join(BLOCKS[step] for step in steps)


def _words(question: Statistics, name: str, measured: dict[str, Measured]) -> str:
    """What follows, what is missing, and what is not as it was declared."""
    aside = {"(missing)": "", "(out of bounds)": "", "(any other)": ""}
    shares: list[tuple[float, str]] = []
    for bin in question.columns[name].bin_names(question.fine):
        found = measured.get(f"share[{name}={bin}]")
        if found is None:
            continue
        if bin in aside:
            aside[bin] = f"  {bin.strip('()')} {_percent(found)}" if found.value > 2 * found.error else ""
        elif found.value > CERTAIN * found.error:
            shares.append((found.value, f"{bin} {_percent(found)}"))
    if (mean := measured.get(f"mean[{name}]")) is not None:
        median, low, high = (measured[f"{metric}[{name}]"] for metric in ("median", "p05", "p95"))
        follows = f"mean {_told(mean)}  median {_told(median)}  90 % from {low.value:.4g} to {high.value:.4g}"
    elif shares:
        best = sorted(shares, reverse=True)
        follows = "  ".join(told for _, told in best[:NAMES])
        follows += f"  and {len(best) - NAMES} more" if len(best) > NAMES else ""
    else:
        follows = "nothing stands out from the noise"
    return follows + "".join(aside.values())


def _told(found: Measured) -> str:
    return f"{found.value:.4g} +- {found.error:.2g}"


def _percent(found: Measured) -> str:
    return f"{found.value:.1%} +- {found.error:.1%}"
