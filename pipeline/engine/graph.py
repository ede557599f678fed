"""The graph of a lifecycle: stages are functions, edges are parameter names.

A stage declares what it produces; a parameter of that name in another stage is an edge. Every other parameter is a
section of the configuration or a tool of the run (the clients, the store). The graph is linted before anything runs.
A stage that computes is a Ray task with its own resources, retries and timeout; a stage that asks clients runs in the
driver, beside the grid, because its work is on the clients.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel

from privacy.errors import ConfigError, GraphInvalid

Place = Literal["clients", "here"]
Function = TypeVar("Function", bound=Callable[..., BaseModel])


@dataclass(frozen=True)
class Resources:
    """What a Ray task takes. cpus, gpus: how many, also a part of one. memory: bytes; None: whatever it needs."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None


@dataclass(frozen=True)
class Stage:
    """One node of the graph. place: `clients` asks clients from the driver, `here` computes as a Ray task, or in the
    driver itself when it takes no resources."""

    name: str
    function: Callable[..., BaseModel]
    produces: str
    place: Place
    charges: bool = False
    volatile: bool = False
    asks: tuple[str, ...] = ()
    resources: Resources | None = Resources()
    retries: int = 0
    timeout: float | None = None

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    @cached_property
    def types(self) -> dict[str, type[BaseModel]]:
        """Of its parameters, and `return`."""
        return get_type_hints(self.function)

    @property
    def output(self) -> type[BaseModel]:
        return self.types["return"]


def stage(
    *,
    produces: str,
    place: Place,
    charges: bool = False,
    volatile: bool = False,
    asks: tuple[str, ...] = (),
    resources: Resources | None = Resources(),
    retries: int = 0,
    timeout: float | None = None,
) -> Callable[[Function], Function]:
    """Mark a function as a stage.

    charges: each execution spends privacy budget, so it is not repeated silently. volatile: it looks at the world, or
    moves it: once in a run, in every run anew. asks: the actions it asks clients. resources, retries and timeout
    (seconds) are those of its Ray task; without resources it is none: it computes nothing, a worker would cost more.
    """

    def mark(function: Function) -> Function:
        function.stage = Stage(  # type: ignore[attr-defined]
            function.__name__, function, produces, place, charges, volatile, asks, resources, retries, timeout
        )
        return function

    return mark


def stage_of(function: Callable[..., BaseModel]) -> Stage:
    """The stage that `@stage` made of a function. Raises GraphInvalid."""
    found = getattr(function, "stage", None)
    if not isinstance(found, Stage):
        raise GraphInvalid(f"{function.__name__} is not a stage", remedy="Decorate it with @stage.")
    return found


class Dag:
    """A linted graph of stages."""

    def __init__(
        self, functions: Iterable[Callable[..., BaseModel]], *, sections: Iterable[str], tools: Mapping[str, Any]
    ):
        """sections: names of configuration values. tools: the types of the run's tools by name; one that stays in its
        process says `sendable = False`. Raises GraphInvalid for a double name, an unknown parameter or a cycle."""
        self.stages = {found.name: found for found in map(stage_of, functions)}
        self._sections, self._tools = set(sections), dict(tools)
        given = {*self._sections, *self._tools}
        self.makers: dict[str, Stage] = {}
        for found in self.stages.values():
            if found.produces in self.makers:
                raise GraphInvalid(
                    f"{found.produces} is produced by {self.makers[found.produces].name} and {found.name}"
                )
            if found.produces in given:
                raise GraphInvalid(f"{found.produces} is both an output of {found.name} and an input of the graph")
            self.makers[found.produces] = found
        for found in self.stages.values():
            for name in found.parameters:
                if name not in self.makers and name not in given:
                    raise GraphInvalid(
                        f"stage {found.name}: nothing provides its parameter {name}",
                        remedy=f"Known: {', '.join(sorted({*self.makers, *given}))}.",
                    )
                if found.place == "here" and found.resources and not getattr(self._tools.get(name), "sendable", True):
                    raise GraphInvalid(
                        f"stage {found.name} runs on Ray and cannot hold {name}", remedy="Place it at clients."
                    )
        try:
            self.order = tuple(TopologicalSorter(self.edges()).static_order())
        except CycleError as error:
            raise GraphInvalid(f"the stages form a cycle: {' -> '.join(error.args[1])}") from None

    def edges(self) -> dict[str, set[str]]:
        """Stage name -> names of the stages it takes something from."""
        return {
            name: {self.makers[parameter].name for parameter in found.parameters if parameter in self.makers}
            for name, found in self.stages.items()
        }

    def until(self, name: str | None) -> Dag:
        """One stage and all that it needs; None: the whole graph. Raises ConfigError for an unknown name."""
        if name is None:
            return self
        if name not in self.stages:
            close = difflib.get_close_matches(name, self.stages, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"there is no stage {name}.{hint}", remedy=f"Stages: {', '.join(self.order)}.")
        edges, wanted, waiting = self.edges(), {name}, [name]
        while waiting:
            new = edges[waiting.pop()] - wanted
            wanted |= new
            waiting.extend(new)
        functions = [found.function for found in self.stages.values() if found.name in wanted]
        return Dag(functions, sections=self._sections, tools=self._tools)

    def as_text(self) -> str:
        """One line a stage: where it runs, what it takes and what it makes."""
        width = max(map(len, self.stages))
        lines = []
        for name in self.order:
            found = self.stages[name]
            takes = ", ".join(parameter for parameter in found.parameters if parameter in self.makers) or "-"
            lines.append(f"{name:{width}}  {found.place:7}  {takes} -> {found.produces}")
        return "\n".join(lines)

    def as_graphviz(self) -> str:
        """The graph in Graphviz's language."""
        lines = ["digraph sottovoce {", "  rankdir=LR; node [shape=box, style=rounded];"]
        for name in self.order:
            style = ', style="rounded,filled", fillcolor="#eef3ff"' if self.stages[name].place == "clients" else ""
            lines.append(f'  "{name}" [label="{name}"{style}];')
        for name in self.order:
            lines += [
                f'  "{self.makers[parameter].name}" -> "{name}" [label="{parameter}"];'
                for parameter in self.stages[name].parameters
                if parameter in self.makers
            ]
        return "\n".join([*lines, "}"])
