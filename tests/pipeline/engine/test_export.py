"""What is written for other orchestrators: it compiles, and says the graph's stages and this program's command."""

import ast
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from pipeline.engine.export import airflow, beam, kubeflow
from pipeline.engine.export.handover import Handover, checked_hours
from pipeline.engine.export.kubeflow_task import outputs
from pipeline.lifecycle import lifecycle_dag
from privacy.errors import ConfigError

DIGEST = "d" * 64


def handover(name: str = "Stay_of 2 days", folder: str = "/srv/fed", verb: str = "run") -> Handover:
    place = PurePosixPath(folder)
    program = ["/opt/s/bin/python", "-P", "-m", "sottovoce"]
    return Handover(name, program, verb, place / "stay.yaml", place / "home", DIGEST, lifecycle_dag().order, 1.5)


def constants(text: str) -> dict[str, Any]:
    """The module's own values."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


@pytest.mark.parametrize("folder", ["/srv/fed", '/srv/it\'s "mine" {x} $label ${stages}', "/srv/환자 데이터"])
@pytest.mark.parametrize(
    "write", [lambda it: airflow.written(it, None), lambda it: airflow.written(it, "@daily"), beam.written]
)
def test_python_files_say_the_command_and_the_stages(write: Any, folder: str) -> None:
    found = constants(write(handover(folder=folder)))
    assert found["STAGES"] == list(lifecycle_dag().order)
    assert found["COMMAND"] == [
        *("/opt/s/bin/python", "-P", "-m", "sottovoce", "run", f"{folder}/stay.yaml"),
        *("--home", f"{folder}/home", "--expect", DIGEST, "--json"),
    ]
    assert found["FINAL"] == {2, 3, 4}


@pytest.mark.parametrize(("name", "label"), [("Stay_of 2 days", "stay-of-2-days"), ("7 wards", "model-7-wards")])
def test_a_name_takes_the_form_that_all_accept(name: str, label: str) -> None:
    assert handover(name).label == label
    assert yaml.safe_load(kubeflow.written(handover(name), "i", "c", "/m").split("---\n")[0])["pipelineInfo"] == {
        "name": label
    }


@pytest.mark.parametrize("schedule", ["daily", "0 2 * *", "0 2 * * * *", "@never", "'] + x"])
def test_a_schedule_that_is_none_is_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match="no cron text"):
        airflow.written(handover(), schedule)


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(hours: float) -> None:
    with pytest.raises(ConfigError, match="--hours"):
        checked_hours(hours)


def test_kubeflow_runs_one_stage_after_the_other_without_its_cache() -> None:
    pipeline, platform = yaml.safe_load_all(
        kubeflow.written(handover(verb="simulate"), "here/image:1", "disk", "/data")
    )
    tasks, order = pipeline["root"]["dag"]["tasks"], list(lifecycle_dag().order)
    assert list(tasks) == order
    assert [tasks[name].get("dependentTasks", []) for name in order] == [[], *([name] for name in order[:-1])]
    assert all(task["cachingOptions"] == {} for task in tasks.values())
    for name, executor in zip(order, pipeline["deploymentSpec"]["executors"].values(), strict=True):
        container = executor["container"]
        words = [*container["command"], *container["args"]]
        assert (container["image"], words[words.index("--until") + 1]) == ("here/image:1", name)
        assert words[words.index("--expect") + 1] == DIGEST
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {executor["pvcMount"][0]["mountPath"] for executor in mounts.values()} == {"/data"}


def test_a_report_is_told_in_kubeflows_terms() -> None:
    report = {
        "model": "stay",
        "version": 3,
        "files": "/w/models/stay/3",
        "metrics": {"roc_auc": 0.8},
        "errors": {"roc_auc": 0.01},
        "privacy": {"text": "epsilon 3"},
    }
    place = {"artifacts": [{"name": "m", "uri": "/root/m", "type": {"schemaTitle": "system.Metrics"}}]}
    asked = {"outputs": {"artifacts": {"metrics": place, "version": place}, "outputFile": "/x"}}
    made = json.loads(json.dumps(outputs(asked, report)))["artifacts"]
    assert made["metrics"]["artifacts"][0]["metadata"] == {"roc_auc": 0.8, "roc_auc error": 0.01}
    assert made["metrics"]["artifacts"][0]["uri"] == "/root/m"
    assert made["version"]["artifacts"][0]["uri"] == "file:///w/models/stay/3"
    assert made["version"]["artifacts"][0]["metadata"]["version"] == 3
