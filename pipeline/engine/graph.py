"""The DAG engine: stages are functions, edges are parameter names, Ray runs what computes.

A stage declares what it produces; a parameter of that name in another stage is an edge. Every other parameter is a
section of the configuration or a resource of the run (the federation, the store). The graph is linted before anything
runs and scheduled with graphlib: whatever is ready runs at once. A stage that computes is a Ray task with its own
resources, retries and timeout; a stage that asks clients runs in a thread of the driver, beside the grid, because its
work is on the clients.

An execution is identified by a key over stage, inputs, parameters and code. A complete execution with that key
is reused; one that was interrupted is resumed under its own id, so that clients recognise it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, Protocol, TypeVar, get_type_hints, runtime_checkable

from pydantic import BaseModel

from pipeline.engine.cluster import restore_home
from pipeline.engine.progress import Progress, StageBroken, StageFinished, StageStarted
from pipeline.host.code import code_digest
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.journal import Journal
from pipeline.store.metadata import Metadata
from privacy.errors import GraphInvalid, SottovoceError, StageFailed, StageTimeout, named

Place = Literal["clients", "here"]
SENDABLE = {"store", "registry"}
"""Resources that can be sent to another process; the others live in the driver."""
Function = TypeVar("Function", bound=Callable[..., BaseModel])


@dataclass(frozen=True)
class Stage:
    """One node of the graph. place: `clients` asks clients from the driver, `here` computes as a Ray task."""

    name: str
    function: Callable[..., BaseModel]
    produces: str
    place: Place
    charges: bool = False
    volatile: bool = False
    asks: tuple[str, ...] = ()
    cpus: float = 1.0
    retries: int = 0
    timeout: float | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    @property
    def output(self) -> type[BaseModel]:
        kind: type[BaseModel] = get_type_hints(self.function)["return"]
        return kind


def stage(
    *,
    produces: str,
    place: Place,
    charges: bool = False,
    volatile: bool = False,
    asks: tuple[str, ...] = (),
    cpus: float = 1.0,
    retries: int = 0,
    timeout: float | None = None,
) -> Callable[[Function], Function]:
    """Mark a function as a stage.

    charges: it spends privacy budget. volatile: it looks at the world and is never reused. asks: the actions it asks
    clients; of an input that is `Narrowed` only what concerns these is in its key. cpus, retries and timeout (seconds)
    apply to its Ray task.
    """

    def mark(function: Function) -> Function:
        function.stage = Stage(  # type: ignore[attr-defined]
            function.__name__, function, produces, place, charges, volatile, asks, cpus, retries, timeout
        )
        return function

    return mark


@runtime_checkable
class Narrowed(Protocol):
    """An input of which a stage depends on no more than what concerns the actions it asks."""

    def narrowed(self, asks: tuple[str, ...]) -> BaseModel: ...


def stage_of(function: Callable[..., BaseModel]) -> Stage:
    """The stage that `@stage` made of a function. Raises GraphInvalid."""
    found = getattr(function, "stage", None)
    if not isinstance(found, Stage):
        raise GraphInvalid(f"{function.__name__} is not a stage", remedy="Decorate it with @stage.")
    return found


@dataclass(frozen=True)
class Inputs:
    """What a graph gets from outside: configuration values by section, and resources of the run by name.

    Configuration values are part of a stage's key; resources are not.
    """

    sections: Mapping[str, Any]
    resources: Mapping[str, Any] = field(default_factory=dict)


class Dag:
    """A linted graph of stages."""

    def __init__(
        self, functions: Iterable[Callable[..., BaseModel]], *, sections: Iterable[str], resources: Iterable[str]
    ):
        """Raises GraphInvalid for a double name, an unknown parameter or a cycle, naming it."""
        self.stages = {found.name: found for found in map(stage_of, functions)}
        self._sections, self._resources = set(sections), set(resources)
        self.makers: dict[str, Stage] = {}
        for found in self.stages.values():
            if found.produces in self.makers:
                raise GraphInvalid(
                    f"{found.produces} is produced by {self.makers[found.produces].name} and {found.name}"
                )
            if found.produces in self._sections | self._resources:
                raise GraphInvalid(f"{found.produces} is both an output of {found.name} and an input of the graph")
            self.makers[found.produces] = found
        for found in self.stages.values():
            for name in found.parameters:
                if name not in self.makers and name not in self._sections | self._resources:
                    raise GraphInvalid(
                        f"stage {found.name}: nothing provides its parameter {name}",
                        remedy=f"Known: {', '.join(sorted({*self.makers, *self._sections, *self._resources}))}.",
                    )
                if found.place == "here" and name in self._resources - SENDABLE:
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

    def run(
        self, inputs: Inputs, *, run: str, store: ArtifactStore, metadata: Metadata, progress: Progress
    ) -> dict[str, Any]:
        """Run every stage, or reuse its result; returns all outputs by name.

        A failing stage lets those already running finish and starts no other. Raises what the stage raised if it is
        a SottovoceError, else StageFailed.
        """
        return _Scheduler(self, inputs, run, store, metadata, progress).run()


class _Scheduler:
    """One run of a graph."""

    def __init__(
        self, dag: Dag, inputs: Inputs, run: str, store: ArtifactStore, metadata: Metadata, progress: Progress
    ) -> None:
        self.dag, self.inputs, self.id = dag, inputs, run
        self.store, self.metadata, self.progress = store, metadata, progress
        self.outputs: dict[str, Any] = {}
        self.digests: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        sorter = TopologicalSorter(self.dag.edges())
        sorter.prepare()
        running: dict[Future[tuple[BaseModel, str]], Stage] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(max_workers=len(self.dag.stages), thread_name_prefix="stage") as pool:
            while sorter.is_active() and (running or not failure):
                if not failure:
                    for name in sorter.get_ready():
                        found = self.dag.stages[name]
                        running[pool.submit(self._execute, found)] = found
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    found = running.pop(future)
                    if error := future.exception():
                        failure = failure or error
                        self.progress(StageBroken(found.name, str(error)))
                        continue
                    self.outputs[found.produces], self.digests[found.produces] = future.result()
                    sorter.done(found.name)
        if failure:
            raise failure
        return self.outputs

    def _execute(self, found: Stage) -> tuple[BaseModel, str]:
        begun = time.monotonic()
        inputs = {name: self.digests[name] for name in found.parameters if name in self.dag.makers}
        parameters = {
            name: _plain(self.inputs.sections[name]) for name in found.parameters if name in self.inputs.sections
        }
        code = code_digest(found.function.__module__)
        key = _key(found.name, {name: self._seen(found, name) for name in inputs}, parameters, code)
        earlier = [] if found.volatile else self.metadata.find(key)
        for execution in earlier:
            if execution.state == "COMPLETE" and (reused := self._reuse(found, execution.id)):
                self.metadata.associate(self.id, execution.id, cached=True)
                self.progress(StageFinished(found.name, cached=True, seconds=time.monotonic() - begun))
                return reused
        self.progress(StageStarted(found.name))
        interrupted = [execution.id for execution in earlier if execution.state != "COMPLETE"]
        execution_id = interrupted[0] if interrupted else self.metadata.begin(found.name, key, parameters, code)
        self.metadata.associate(self.id, execution_id, cached=False)
        for name, digest in inputs.items():
            self.metadata.record(execution_id, "INPUT", name, digest, name)
        try:
            value = self._call(found, execution_id)
        except BaseException as error:
            self.metadata.end(execution_id, error=str(error) or type(error).__name__)
            if found_error := named(error):
                raise found_error from error
            raise StageFailed(
                f"stage {found.name}: {type(error).__name__}: {error}", remedy="This is a bug: please report it."
            ) from error
        digest = self.store.put(value.model_dump_json().encode())
        self.metadata.record(execution_id, "OUTPUT", found.produces, digest, found.produces)
        self.metadata.end(execution_id)
        self.progress(StageFinished(found.name, cached=False, seconds=time.monotonic() - begun))
        return value, digest

    def _seen(self, found: Stage, name: str) -> str:
        """Digest of what a stage depends on of one of its inputs."""
        value = self.outputs[name]
        if not isinstance(value, Narrowed):
            return self.digests[name]
        return hashlib.sha256(value.narrowed(found.asks).model_dump_json().encode()).hexdigest()

    def _reuse(self, found: Stage, execution: str) -> tuple[BaseModel, str] | None:
        digest = self.metadata.output(execution, found.produces)
        if digest is None or not self.store.has(digest):
            return None
        return found.output.model_validate_json(self.store.get(digest)), digest

    def _call(self, found: Stage, execution: str) -> BaseModel:
        resources = {
            **self.inputs.resources,
            "store": self.store,
            "journal": Journal(execution, self.store, self.metadata),
        }
        values = {**resources, **self.inputs.sections, **self.outputs}
        arguments = {name: values[name] for name in found.parameters}
        if found.place == "clients":
            return found.function(**arguments)
        return _on_ray(found, arguments)


def _on_ray(found: Stage, arguments: dict[str, Any]) -> BaseModel:
    import ray

    task = ray.remote(num_cpus=found.cpus, max_retries=found.retries)(_in_worker)
    reference = task.remote(found.function, arguments)
    try:
        value: BaseModel = ray.get(reference, timeout=found.timeout)
        return value
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        raise StageTimeout(f"stage {found.name} took longer than {found.timeout:.0f} s") from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        if isinstance(cause, SottovoceError):
            raise cause from None
        raise cause from error
    except ray.exceptions.WorkerCrashedError as error:
        raise StageFailed(
            f"stage {found.name}: its process died",
            remedy="Look for an out-of-memory kill, then run the same command again.",
        ) from error


def _in_worker(function: Callable[..., BaseModel], arguments: dict[str, Any]) -> BaseModel:
    restore_home()
    return function(**arguments)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _key(name: str, inputs: Mapping[str, str], parameters: Mapping[str, Any], code: str) -> str:
    content = json.dumps([name, dict(inputs), dict(parameters), code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
