"""Runs as OpenLineage events (spec 2-0-2): a job for each model and each of its stages, a dataset for each artifact."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pipeline.language.protocol import own_version
from pipeline.store.exchange.story import Story
from pipeline.store.metadata import Execution, Link, Run

SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
_SPACE = uuid.UUID("5f0c6a3e-6f2b-5c0e-9c53-6a8f0f6f1d11")
"""Of the ids that are made from ours: the same run is the same id in every export."""


def events(story: Story, namespace: str) -> Iterator[dict[str, Any]]:
    """START and COMPLETE or FAIL of every run and of every execution that it made, in order of time; what it reused
    was told with the run that made it. One that is not at its end has no end."""
    told = []
    for run in story.runs:
        told += list(_run(run, namespace))
        for execution, reused in story.executions[run.id]:
            if not reused:
                told += list(_execution(story, run, execution, namespace))
    yield from sorted(told, key=lambda event: event["eventTime"])


def _run(run: Run, namespace: str) -> Iterator[dict[str, Any]]:
    facets = {"jobType": _job_type("PIPELINE")}
    yield _event("START", run.started, _id("run", run.id), run.name, namespace, facets, {})
    if run.ended and run.state in _ENDS:
        yield _event(_ENDS[run.state], run.ended, _id("run", run.id), run.name, namespace, facets, _failed(run.error))


def _execution(story: Story, run: Run, execution: Execution, namespace: str) -> Iterator[dict[str, Any]]:
    job = f"{run.name}.{execution.stage}"
    above = {"run": {"runId": _id("run", run.id)}, "job": {"namespace": namespace, "name": run.name}}
    parent = {"parent": _facet("1-2-0/ParentRunFacet", {**above, "root": above})}
    jobs = {"jobType": _job_type("STAGE")}
    links = story.links[execution.id]
    inputs = [_dataset(story, run, link, namespace) for link in links if link.direction == "INPUT"]
    outputs = [_dataset(story, run, link, namespace) for link in links if link.direction == "OUTPUT"]
    id = _id("execution", execution.id)
    yield _event("START", execution.started, id, job, namespace, jobs, parent, _once(inputs))
    if execution.ended and execution.state in _ENDS:
        facets = parent | _failed(execution.error)
        yield _event(
            _ENDS[execution.state], execution.ended, id, job, namespace, jobs, facets, _once(inputs), _once(outputs)
        )


_ENDS = {"COMPLETE": "COMPLETE", "FAILED": "FAIL"}


def _event(
    kind: str,
    time: float,
    run: str,
    job: str,
    namespace: str,
    job_facets: dict[str, Any],
    run_facets: dict[str, Any],
    inputs: list[dict[str, Any]] | None = None,
    outputs: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds"),
        "producer": _producer(),
        "schemaURL": SPEC,
        "run": {"runId": run, "facets": run_facets},
        "job": {"namespace": namespace, "name": job, "facets": job_facets},
        "inputs": inputs or [],
        "outputs": outputs or [],
    }


def _dataset(story: Story, run: Run, link: Link, namespace: str) -> dict[str, Any]:
    place = {"name": story.types[link.artifact], "uri": story.uris[link.artifact]}
    return {
        "namespace": namespace,
        "name": f"{run.name}.{link.name}",
        "facets": {
            "version": _facet("1-0-1/DatasetVersionDatasetFacet", {"datasetVersion": link.artifact}),
            "dataSource": _facet("1-0-1/DatasourceDatasetFacet", place),
        },
    }


def _once(datasets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({dataset["name"]: dataset for dataset in datasets}.values())


def _job_type(kind: str) -> dict[str, Any]:
    return _facet("2-0-4/JobTypeJobFacet", {"processingType": "BATCH", "integration": "SOTTOVOCE", "jobType": kind})


def _failed(error: str | None) -> dict[str, Any]:
    if not error:
        return {}
    told = {"message": error, "programmingLanguage": "PYTHON"}
    return {"errorMessage": _facet("1-0-1/ErrorMessageRunFacet", told)}


def _facet(schema: str, values: dict[str, Any]) -> dict[str, Any]:
    name = schema.partition("/")[2]
    return {"_producer": _producer(), "_schemaURL": f"{FACETS}/{schema}.json#/$defs/{name}", **values}


def _producer() -> str:
    return f"urn:sottovoce:{own_version()}"


def _id(kind: str, ours: str) -> str:
    return str(uuid.uuid5(_SPACE, f"{kind}/{ours}"))
