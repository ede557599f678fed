"""Plots as SVG: lines with bands, points with error bars, bars, and a grid. Readable without colour, and aloud."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 46
DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 4", "12 4", "4 2", "6 2 2 2")
"""Of one series after the other: a print, and whoever sees no colours, tell them apart."""


@dataclass(frozen=True)
class Series:
    """x, y: of equal length. low, high: a band about y, where it is known. joined: a line; else points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    joined: bool = True


@dataclass(frozen=True)
class Plot:
    """title: what it is. said: what it shows, in a sentence, for whoever does not see it. diagonal: a line of no skill;
    level: one at this height."""

    title: str
    said: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    diagonal: bool = False
    level: float | None = None
    log_x: bool = False
    names: Sequence[str] = field(default_factory=tuple)


def drawn(plot: Plot) -> Markup:
    """The SVG of a plot."""
    frame = _Frame(plot)
    parts = [*frame.axes()]
    if plot.diagonal:
        parts.append(frame.line([frame.x0, frame.x1], [frame.y0, frame.y1], "chance"))
    if plot.level is not None:
        parts.append(frame.line([frame.x0, frame.x1], [plot.level] * 2, "chance"))
    for number, series in enumerate(plot.series):
        parts += frame.series(series, number)
    if len(plot.series) > 1:
        parts += frame.legend([series.name for series in plot.series])
    return _svg(plot.title, plot.said, WIDTH, HEIGHT, parts)


class _Frame:
    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        xs = [value for series in plot.series for value in series.x if math.isfinite(value)]
        ys = [value for series in plot.series for value in (*series.y, *series.low, *series.high)]
        self.x0, self.x1 = plot.x_range or _padded([math.log10(x) for x in xs] if plot.log_x else xs)
        self.y0, self.y1 = plot.y_range or _padded([*ys, *([plot.level] if plot.level is not None else [])])

    def x(self, value: float) -> float:
        """In the picture; of a value, or of its logarithm."""
        at = math.log10(value) if self._plot.log_x and value > 0 else value
        return LEFT + (at - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, self.y0), self.y1)
        return HEIGHT - BOTTOM - (inside - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> list[Markup]:
        made = []
        floor, ceiling = HEIGHT - BOTTOM, TOP
        for value in ticks(self.y0, self.y1):
            at = self.y(value)
            made.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    LEFT, WIDTH - RIGHT, at, at
                )
            )
            made.append(_text(LEFT - 6, at + 4, _figure(value), "end"))
        marks = ticks(self.x0, self.x1)
        for value in marks:
            at = LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)
            made.append(_text(at, floor + 16, _figure(10**value if self._plot.log_x else value), "middle"))
        made.append(Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(LEFT, ceiling, floor, WIDTH - RIGHT))
        made.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, self._plot.x_title, "middle"))
        turned = Markup(
            '<text class="label" transform="translate(13 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
        )
        made.append(turned.format((floor + ceiling) / 2, self._plot.y_title))
        return made

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str) -> Markup:
        """Of points in the picture's own units of x."""
        points = [
            f"{LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT):.1f},{self.y(y):.1f}"
            for x, y in zip(xs, ys, strict=True)
        ]
        return Markup('<polyline class="{}" points="{}"/>').format(style, " ".join(points))

    def series(self, series: Series, number: int) -> list[Markup]:
        known = [k for k in range(len(series.x)) if math.isfinite(series.y[k])]
        made = []
        if series.low and series.joined:
            edge = [f"{self.x(series.x[k]):.1f},{self.y(series.high[k]):.1f}" for k in known]
            back = [f"{self.x(series.x[k]):.1f},{self.y(series.low[k]):.1f}" for k in reversed(known)]
            made.append(
                Markup('<polygon class="band s{}" points="{}"/>').format(number % len(DASHES), " ".join(edge + back))
            )
        if series.joined:
            points = " ".join(f"{self.x(series.x[k]):.1f},{self.y(series.y[k]):.1f}" for k in known)
            dash = DASHES[number % len(DASHES)]
            made.append(
                Markup('<polyline class="line s{}" stroke-dasharray="{}" points="{}"/>').format(
                    number % len(DASHES), dash, points
                )
            )
            return made
        for k in known:
            x, y = self.x(series.x[k]), self.y(series.y[k])
            if series.low:
                low, high = self.y(series.low[k]), self.y(series.high[k])
                made.append(
                    Markup('<line class="bar s{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                        number % len(DASHES), x, x, low, high
                    )
                )
            told = f"{series.name}: {_figure(series.x[k])}, {_figure(series.y[k])}"
            made.append(
                Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
                    number % len(DASHES), x, y, told
                )
            )
        return made

    def legend(self, names: Sequence[str]) -> list[Markup]:
        made = []
        for number, name in enumerate(names[: len(DASHES)]):
            at = HEIGHT - BOTTOM - 12 - 15 * (min(len(names), len(DASHES)) - 1 - number)
            start = WIDTH - RIGHT - 150
            dash = DASHES[number]
            made.append(
                Markup('<line class="line s{}" stroke-dasharray="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    number, dash, start, start + 26, at - 4, at - 4
                )
            )
            made.append(_text(start + 32, at, name if len(name) <= 20 else name[:19] + "…", "start"))
        return made


@dataclass(frozen=True)
class Grid:
    """Cells by row and column; values in [0, 1] are how full they are. texts: what stands in them, or is said of them
    where `plain`; may be empty."""

    title: str
    said: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]] = field(default_factory=tuple)
    column_title: str = ""
    plain: bool = False


def gridded(grid: Grid) -> Markup:
    """The SVG of a grid."""
    names = min(170, 14 + 7 * max((len(name) for name in grid.rows), default=0))
    side = max(14, min(54, (760 - names) // max(1, len(grid.columns))))
    tall = max(16, min(34, side))
    width, height = names + side * len(grid.columns) + 12, 34 + tall * len(grid.rows) + 8
    parts = [_text(names + side * len(grid.columns) / 2, 12, grid.column_title, "middle")]
    step = max(1, math.ceil(26 / side))
    for k, column in enumerate(grid.columns):
        if k % step == 0:
            parts.append(_text(names + side * (k + 0.5), 28, column[:7], "middle"))
    cell = Markup(
        '<rect class="cell" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" style="--full:{:.2f}">'
        "<title>{}</title></rect>"
    )
    for i, row in enumerate(grid.rows):
        parts.append(_text(names - 6, 34 + tall * i + tall / 2 + 4, row, "end"))
        for k, column in enumerate(grid.columns):
            told = grid.texts[i][k] if grid.texts else ""
            place = names + side * k + 1, 34 + tall * i + 1, side - 2, tall - 2
            parts.append(
                cell.format(*place, grid.values[i][k], f"{row}, {column}: {told or _figure(grid.values[i][k])}")
            )
            if told and side >= 34 and not grid.plain:
                strong = "on" if grid.values[i][k] > 0.55 else "label"
                parts.append(_text(names + side * (k + 0.5), 34 + tall * i + tall / 2 + 4, told, "middle", strong))
    return _svg(grid.title, grid.said, width, height, parts)


@dataclass(frozen=True)
class Bars:
    """Lengths by name, one below the other. limit: a line at this length."""

    title: str
    said: str
    names: Sequence[str]
    values: Sequence[float]
    texts: Sequence[str]
    starts: Sequence[float] = ()


def barred(bars: Bars) -> Markup:
    """The SVG of bars."""
    names = min(190, 14 + 7 * max((len(name) for name in bars.names), default=0))
    starts = bars.starts or [0.0] * len(bars.values)
    longest = max([start + value for start, value in zip(starts, bars.values, strict=True)], default=0.0) or 1.0
    width, tall = 640, 22
    room = width - names - 130
    parts = []
    for k, (name, value, text) in enumerate(zip(bars.names, bars.values, bars.texts, strict=True)):
        left, long = names + starts[k] / longest * room, max(1.0, value / longest * room)
        parts.append(_text(names - 6, 18 + tall * k, name, "end"))
        parts.append(
            Markup('<rect class="fill" x="{:.1f}" y="{}" width="{:.1f}" height="14"/>').format(left, 6 + tall * k, long)
        )
        parts.append(_text(left + long + 6, 18 + tall * k, text, "start"))
    return _svg(bars.title, bars.said, width, 12 + tall * len(bars.names), parts)


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / 6
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low) * 0.06 or max(abs(low) * 0.1, 0.5)
    return low - room, high + room


def _figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _text(x: float, y: float, text: str, anchor: str, style: str = "label") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(style, x, y, anchor, text)


def _svg(title: str, said: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    head = Markup(
        "<figcaption>{}</figcaption>"
        '<svg viewBox="0 0 {:.0f} {:.0f}" style="max-width:{:.0f}px" role="img" aria-label="{}">'
    )
    return head.format(title, width, height, width * 1.15, said) + Markup("").join(parts) + Markup("</svg>")
