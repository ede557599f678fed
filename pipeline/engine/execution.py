"""One stage, executed: any process can, because all it needs is in the stores.

An execution is identified by a key over stage, inputs, parameters and code. A complete execution with that key is
reused; one that was interrupted is resumed under its own id, so that clients recognise it. What spends is never
repeated silently: a result that was paid for and is gone from the store is not made again without being asked for.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from pipeline.engine.cluster import restore_home
from pipeline.engine.graph import Resources, Stage
from pipeline.engine.progress import Progress, StageFinished, StageStarted
from pipeline.host.code import code_digest
from pipeline.kinds import INSTALLED, codes_of
from pipeline.store.artifacts import ArtifactStore, Digest
from pipeline.store.journal import Journal
from pipeline.store.metadata import Execution, Metadata
from privacy.errors import ArtifactMissing, EngineUnavailable, SottovoceError, StageFailed, StageTimeout, named


@runtime_checkable
class Narrowed(Protocol):
    """A value of which a stage depends on a part only: what concerns it by its name, or by the actions it asks."""

    def narrowed(self, stage: str, asks: tuple[str, ...]) -> BaseModel: ...


@dataclass(frozen=True)
class Context:
    """What a run brings to its stages.

    sections: configuration values by name; they are part of a stage's key. tools: what a stage may hold, by name;
    they are not. prices: what a stage charges, in words.
    """

    run: str
    sections: Mapping[str, Any]
    tools: Mapping[str, Any]
    store: ArtifactStore
    metadata: Metadata
    progress: Progress
    prices: Mapping[str, str] = field(default_factory=dict)


def execute(stage: Stage, inputs: Mapping[str, Digest], context: Context) -> Digest:
    """The digest of what the stage makes of the artifacts `inputs`: made now, or found in the store.

    Raises whatever SottovoceError the stage raised, StageFailed for anything else, ArtifactMissing when an input, or a
    result that was paid for, is gone.
    """
    begun, metadata = time.monotonic(), context.metadata
    values = {
        name: stage.types[name].model_validate_json(context.store.get(digest), context=INSTALLED)
        for name, digest in inputs.items()
    }
    sections = [name for name in stage.parameters if name in context.sections]
    parameters = {name: _plain(stage, context.sections[name]) for name in sections}
    code = _code(stage, *values.values(), *(context.sections[name] for name in sections))
    key = _key(stage, {name: _seen(stage, values[name], digest) for name, digest in inputs.items()}, parameters, code)
    earlier = metadata.find(key, run=context.run if stage.volatile else None)
    complete = [execution for execution in earlier if execution.state == "COMPLETE"]
    interrupted = [execution.id for execution in earlier if execution.state != "COMPLETE"]
    for execution in complete:
        if digest := _kept(stage, execution, context):
            metadata.associate(context.run, execution.id, cached=True)
            context.progress(StageFinished(stage.name, cached=True, seconds=time.monotonic() - begun))
            return digest
    if complete and stage.charges and not interrupted:
        raise _paid_and_lost(stage, context)
    context.progress(StageStarted(stage.name))
    execution_id = interrupted[0] if interrupted else metadata.begin(stage.name, key, parameters, code)
    metadata.associate(context.run, execution_id, cached=False)
    for name, digest in inputs.items():
        metadata.record(execution_id, "INPUT", name, digest, name)
    try:
        value = _call(stage, values, execution_id, context)
    except BaseException as error:
        metadata.end(execution_id, error=str(error) or type(error).__name__)
        if found := named(error):
            raise found from error
        raise StageFailed(
            f"stage {stage.name}: {type(error).__name__}: {error}", remedy="This is a bug: please report it."
        ) from error
    digest = context.store.put(value.model_dump_json().encode())
    metadata.record(execution_id, "OUTPUT", stage.produces, digest, stage.produces)
    metadata.end(execution_id)
    context.progress(StageFinished(stage.name, cached=False, seconds=time.monotonic() - begun))
    return digest


def _seen(stage: Stage, value: BaseModel, digest: Digest) -> Digest:
    """Digest of what a stage depends on of one of its inputs."""
    if not stage.asks or not isinstance(value, Narrowed):
        return digest
    return hashlib.sha256(value.narrowed(stage.name, stage.asks).model_dump_json().encode()).hexdigest()


def _kept(stage: Stage, execution: Execution, context: Context) -> Digest | None:
    """The result of an execution, if it and every artifact that it names are in the store."""
    made = {link.name: link.artifact for link in context.metadata.links(execution=execution.id, direction="OUTPUT")}
    digest = made.pop(stage.produces, None)
    if digest is None or not context.store.has(digest):
        return None
    content = context.store.get(digest)
    parts = [part for part in made.values() if part.encode() in content]
    return digest if all(context.store.has(part) for part in parts) else None


def _paid_and_lost(stage: Stage, context: Context) -> ArtifactMissing:
    price = f" ({context.prices[stage.name]})" if stage.name in context.prices else ""
    return ArtifactMissing(
        f"{stage.name} was done and charged before, but what it made is gone from the store; to make it again would be "
        f"charged again{price}",
        remedy="Put the artifact back from a copy; or change a setting of that stage: what is made in another setting "
        "is another result, and paid for.",
    )


def _call(stage: Stage, values: Mapping[str, BaseModel], execution: str, context: Context) -> BaseModel:
    journal = Journal(execution, context.store, context.metadata, context.run)
    given = {**context.sections, **context.tools, "store": context.store, "journal": journal, **values}
    arguments = {name: given[name] for name in stage.parameters}
    if stage.place == "clients" or stage.resources is None:
        return stage.function(**arguments)
    return _on_ray(stage, stage.resources, arguments)


def _on_ray(stage: Stage, takes: Resources, arguments: dict[str, Any]) -> BaseModel:
    import ray

    if not ray.is_initialized():  # it would start one by itself, open to all
        raise EngineUnavailable(f"stage {stage.name} needs Ray, and none is started", remedy="Use ray_engine().")
    task = ray.remote(num_cpus=takes.cpus, num_gpus=takes.gpus, memory=takes.memory, max_retries=stage.retries)
    reference = task(_in_worker).remote(stage.function, arguments)
    try:
        value: BaseModel = ray.get(reference, timeout=stage.timeout)
        return value
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        raise StageTimeout(f"stage {stage.name} took longer than {stage.timeout:.0f} s") from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        if isinstance(cause, SottovoceError):
            raise cause from None
        raise cause from error
    except ray.exceptions.WorkerCrashedError as error:
        raise StageFailed(
            f"stage {stage.name}: its process died",
            remedy="Look for an out-of-memory kill, then run the same command again.",
        ) from error


def _in_worker(function: Callable[..., BaseModel], arguments: dict[str, Any]) -> BaseModel:
    restore_home()
    return function(**arguments)


def _plain(stage: Stage, value: Any) -> Any:
    if isinstance(value, Narrowed):
        value = value.narrowed(stage.name, stage.asks)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _code(stage: Stage, *values: object) -> str:
    """Digest of the code of a stage, and of every kind that its values are of."""
    code = code_digest(stage.function.__module__)
    kinds = codes_of(*values)
    return hashlib.sha256(json.dumps([code, kinds], sort_keys=True).encode()).hexdigest() if kinds else code


def _key(stage: Stage, inputs: Mapping[str, str], parameters: Mapping[str, Any], code: str) -> str:
    content = json.dumps([stage.name, dict(inputs), dict(parameters), code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
