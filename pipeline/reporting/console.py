"""Showing a run: a live table on a terminal, plain lines without one, JSON lines for machines."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.engine.progress import (
    BudgetAsked,
    ClientExcluded,
    ClientWarned,
    Event,
    GroupAgreed,
    Notice,
    Progress,
    RoundFinished,
    RunPlanned,
    StageBroken,
    StageFinished,
    StageStarted,
    Traffic,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@contextmanager
def showing(*, as_json: bool, clock: Callable[[], float] = time.time) -> Iterator[Progress]:
    """The progress callback that suits the output. clock: when what is shown happened."""
    if as_json:
        yield JsonLines(sys.stdout, clock)
    elif sys.stdout.isatty() or _paints():
        from rich.console import Console

        table = LiveTable(Console())
        with table:
            yield table
    else:
        yield PlainLines(sys.stdout, clock)


def _paints() -> bool:
    """Whether this is a notebook that can paint a table anew; without widgets it can only add lines."""
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def _budget(event: BudgetAsked) -> str:
    return f"! client {event.client} could not pay: {event.cause}" if event.cause else f"client {event.client} can pay"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


class JsonLines:
    """One object a line."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._out, self._clock = out, clock

    def __call__(self, event: Event) -> None:
        self.tell(type(event).__name__, dataclasses.asdict(event))

    def tell(self, name: str, fields: Mapping[str, Any]) -> None:
        """What is no event of the run itself: its report, its error."""
        print(json.dumps({"event": name, "time": round(self._clock(), 3), **fields}), file=self._out, flush=True)


class PlainLines:
    """One line for what matters, with the time."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._out, self._clock = out, clock
        self._up = self._down = 0

    def __call__(self, event: Event) -> None:
        for line in self._lines(event):
            when = time.strftime("%H:%M:%S", time.localtime(self._clock()))
            print(f"{when}  {line}", file=self._out, flush=True)

    def _lines(self, event: Event) -> Iterator[str]:
        match event:
            case RunPlanned():
                yield f"run {event.run}  {event.name}"
                for stage, place, charge in event.stages:
                    yield f"  {stage:14} {place:8} {charge}"
            case StageStarted():
                yield f"{event.stage} ..."
            case StageFinished():
                yield f"{event.stage} " + (
                    "unchanged, nothing run" if event.cached else f"done in {event.seconds:.1f} s"
                )
            case StageBroken():
                yield f"{event.stage} FAILED"
            case GroupAgreed():
                yield _group(event)
            case RoundFinished():
                yield _round(event, self._up, self._down)
                self._up = self._down = 0
            case ClientExcluded():
                yield f"! client {event.client} excluded: {event.text}"
            case ClientWarned():
                yield f"! client {event.client}: {event.text} (warn)"
            case BudgetAsked():
                yield _budget(event)
            case Notice():
                yield event.text
            case Traffic():
                self._up += event.up
                self._down += event.down


def _round(event: RoundFinished, up: int, down: int) -> str:
    lost = "  LOST: interrupted after it was charged; the next round goes on" if event.lost else ""
    return (
        f"round {event.round}/{event.rounds}  {event.clients}/{event.cohort} clients  up {megabytes(up)}  "
        f"down {megabytes(down)}  {event.seconds:.1f} s{lost}"
    )


def _group(event: GroupAgreed) -> str:
    again = "" if event.generation == 1 else f", key {event.generation}: a client has left"
    return f"group of {event.clients} clients, masks {'on' if event.masks else 'off'}, {event.layout}{again}"


class LiveTable:
    """A table of stages that stays short, with warnings below it."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._rows: dict[str, list[str]] = {}
        self._title = ""
        self._up = self._down = 0
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def __call__(self, event: Event) -> None:
        from rich.markup import escape

        match event:
            case RunPlanned():
                self._title = f"{event.name}  run {event.run}"
                self._rows = {stage: [place, charge, "will run"] for stage, place, charge in event.stages}
            case StageStarted():
                self._rows[event.stage][2] = "[cyan]running"
            case StageFinished():
                self._rows[event.stage][2] = "[dim]unchanged" if event.cached else f"[green]{event.seconds:.1f} s"
            case StageBroken():
                self._rows[event.stage][2] = "[red]failed"
            case GroupAgreed():
                self._live.console.print(f"  [dim]{_group(event)}", highlight=False)
            case RoundFinished():
                self._rows["training"][2] = f"[cyan]{_round(event, self._up, self._down)}"
                self._up = self._down = 0
            case ClientExcluded():
                said = escape(f"client {event.client} excluded: {event.text}")
                self._live.console.print(f"[red]![/] {said}", highlight=False)
            case ClientWarned():
                said = escape(f"client {event.client}: {event.text} (warn)")
                self._live.console.print(f"[yellow]![/] {said}", highlight=False)
            case BudgetAsked():
                self._live.console.print(f"  {escape(_budget(event))}", highlight=False)
            case Notice():
                self._live.console.print(f"  {escape(event.text)}", highlight=False)
            case Traffic():
                self._up += event.up
                self._down += event.down
        self._live.update(self._table())

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(title=self._title, title_justify="left", box=None, pad_edge=True)
        for heading in ("stage", "where", "privacy charge", "state"):
            table.add_column(heading)
        for stage, row in self._rows.items():
            table.add_row(stage, *row)
        return table
