"""A Kubeflow pipeline: the intermediate representation that its SDK compiles to, written without it.

Every task is a container of this program's image that runs one stage. Kubeflow's own cache is off: it would skip a
stage by its arguments, and ours knows what a result depends on.
"""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.engine.export.handover import BACKOFF, RETRIES, Handover

SDK = "kfp-2.17.3"
"""The version whose representation this is."""
VOLUME = "sottovoce"
"""Default name of the claim that holds configuration and home, or workspace."""
SHARED = "/dev/" + "shm"
"""Ray wants more of it than the 64 MB of a pod."""
LAST = "deployment"
"""The stage whose task hands over the report: metrics and version, in Kubeflow's terms."""


def written(handover: Handover, image: str, claim: str, mount: str) -> str:
    """Two YAML documents: the pipeline, and what of it only Kubernetes knows.

    image: of this program. claim: name of the volume claim. mount: where it is mounted; both paths lie below it.
    """
    place = handover.option.removeprefix("--")
    given = {"config": str(handover.config), place: str(handover.place)}
    tasks, components, executors = {}, {}, {}
    for before, stage in zip([None, *handover.stages], handover.stages, strict=False):
        inputs: dict[str, Any] = {name: {"componentInputParameter": name} for name in sorted(given)}
        inputs["run"] = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
        tasks[stage] = {
            "cachingOptions": {},
            "componentRef": {"name": f"comp-{stage}"},
            **({"dependentTasks": [before]} if before else {}),
            "inputs": {"parameters": inputs},
            "retryPolicy": {
                "backoffDuration": f"{BACKOFF}s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": f"{BACKOFF * 2**RETRIES}s",
                "maxRetryCount": RETRIES,
            },
            "taskInfo": {"name": stage},
        }
        components[f"comp-{stage}"] = {
            "executorLabel": f"exec-{stage}",
            "inputDefinitions": {"parameters": {name: {"parameterType": "STRING"} for name in sorted([*given, "run"])}},
            **({"outputDefinitions": {"artifacts": _ARTIFACTS}} if stage == LAST else {}),
        }
        executors[f"exec-{stage}"] = {"container": _container(handover, stage, place, image)}
    pipeline = {
        "components": components,
        "deploymentSpec": {"executors": executors},
        "pipelineInfo": {"name": handover.label},
        "root": {
            "dag": {"tasks": tasks},
            "inputDefinitions": {
                "parameters": {
                    name: {"defaultValue": value, "isOptional": True, "parameterType": "STRING"}
                    for name, value in sorted(given.items())
                }
            },
        },
        "schemaVersion": "2.1.0",
        "sdkVersion": SDK,
    }
    mounts = {
        "emptyDirMounts": [{"medium": "Memory", "mountPath": SHARED, "volumeName": "shm"}],
        "pvcMount": [
            # both forms of its name, as the SDK writes them: older backends read the first alone
            {"constant": claim, "mountPath": mount, "pvcNameParameter": {"runtimeValue": {"constant": claim}}}
        ],
    }
    kubernetes = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": dict.fromkeys(executors, mounts)}}}}
    return _text(pipeline) + "---\n" + _text(kubernetes)


_ARTIFACTS = {
    "metrics": {"artifactType": {"schemaTitle": "system.Metrics", "schemaVersion": "0.0.1"}},
    "version": {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}},
}


def _container(handover: Handover, stage: str, place: str, image: str) -> dict[str, Any]:
    asked = "{{$.inputs.parameters['%s']}}"
    told = ["--run", asked % "run", "--until", stage, "--json", "--expect", handover.digest]
    words = [handover.verb, asked % "config", f"--{place}", asked % place, *told]
    if stage == LAST:  # its program reads where Kubeflow wants the outputs, runs the command and writes them there
        return {"args": ["{{$}}", "sottovoce", *words], "command": ["sottovoce-kubeflow"], "image": image}
    return {"args": words, "command": ["sottovoce"], "image": image}


class _Plain(yaml.SafeDumper):
    """Without anchors: every task says all that it is."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(tree: dict[str, Any]) -> str:
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False, width=200)
