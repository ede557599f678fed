"""Kubeflow Pipelines: the exported file is what its SDK compiles, and its own local runner runs it to the end."""

import json
from pathlib import Path

import pytest

from pipeline.lifecycle import lifecycle_dag
from tests.interop.support import ROOT, call, environment, exported, lifecycle, once_each

pytestmark = pytest.mark.interop

BIN = environment("kubeflow")

COMPILED = """
import json, sys, yaml
from google.protobuf import json_format
from kfp import compiler, dsl, kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2 as spec

stages, digest = json.loads(sys.argv[2]), sys.argv[3]
ours, platform = yaml.safe_load_all(open(sys.argv[1]))

def component(stage):
    if stage == stages[-1]:
        def made(config: str, workspace: str, run: str, metrics: dsl.Output[dsl.Metrics],
                 version: dsl.Output[dsl.Model]):
            words = [dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER, "sottovoce", "simulate", config, "--workspace",
                     workspace, "--run", run, "--until", stage, "--json", "--expect", digest]
            return dsl.ContainerSpec(image="sottovoce", command=["sottovoce-kubeflow"], args=words)
    else:
        def made(config: str, workspace: str, run: str):
            words = ["simulate", config, "--workspace", workspace, "--run", run, "--until", stage, "--json", "--expect",
                     digest]
            return dsl.ContainerSpec(image="sottovoce", command=["sottovoce"], args=words)
    made.__name__ = stage
    return dsl.container_component(made)

inputs = ours["root"]["inputDefinitions"]["parameters"]

@dsl.pipeline(name=ours["pipelineInfo"]["name"])
def lifecycle(config: str = inputs["config"]["defaultValue"], workspace: str = inputs["workspace"]["defaultValue"]):
    before = None
    for stage in stages:
        task = component(stage)(config=config, workspace=workspace, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        task.set_caching_options(False)
        task.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="240s")
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory")
        kubernetes.mount_pvc(task, pvc_name="sottovoce", mount_path="/home/sottovoce/data")
        if before:
            task.after(before)
        before = task

compiler.Compiler().compile(lifecycle, "reference.yaml")
reference, there = yaml.safe_load_all(open("reference.yaml"))
same = json_format.ParseDict(ours, spec.PipelineSpec()) == json_format.ParseDict(reference, spec.PipelineSpec())
beside = json_format.ParseDict(platform, spec.PlatformSpec()) == json_format.ParseDict(there, spec.PlatformSpec())
print("SAME", same, beside)
if not same:
    print(json.dumps(reference, indent=1, sort_keys=True)); print(json.dumps(ours, indent=1, sort_keys=True))
"""

LOCALLY = """
import json, sys
from kfp import components, local
from kfp.local import subprocess_task_handler

class AsProcess(subprocess_task_handler.SubprocessTaskHandler):
    # the command of each container, as a process of this machine
    def validate_image(self, image): pass
    def validate_not_container_component(self, full_command): pass

subprocess_task_handler.SubprocessTaskHandler = AsProcess
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2], raise_on_error=True)
task = components.load_component_from_file(sys.argv[1])(config=sys.argv[3], workspace=sys.argv[4])
print("DONE")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lifecycle(tmp_path_factory.mktemp("kubeflow"))


def test_the_file_is_what_the_sdk_compiles(config: Path, tmp_path: Path) -> None:
    made = exported("kubeflow", config)
    program = tmp_path / "compiled.py"
    program.write_text(COMPILED)
    digest = made.read_text().split("--expect\n")[1].split("- ")[1].split()[0]
    done = call(["env", "-C", tmp_path, BIN / "python", program, made, json.dumps(lifecycle_dag().order), digest])
    assert "SAME True True" in done.stdout, done.stdout + done.stderr


def test_its_local_runner_runs_it_to_the_end(config: Path, tmp_path: Path) -> None:
    made = exported("kubeflow", config)
    program = tmp_path / "locally.py"
    program.write_text(LOCALLY)
    path = f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin"
    done = call([BIN / "python", program, made, tmp_path / "root", config, tmp_path / "w"], PATH=path)
    assert "DONE" in done.stdout, done.stdout[-4000:] + done.stderr[-4000:]
    assert once_each(tmp_path / "w")
    told = [json.loads(path.read_text()) for path in (tmp_path / "root").rglob("*") if "output" in path.name]
    artifacts = next(tree["artifacts"] for tree in told if "version" in tree.get("artifacts", {}))
    assert artifacts["version"]["artifacts"][0]["metadata"]["version"] == 1
    assert 0 <= artifacts["metrics"]["artifacts"][0]["metadata"]["roc_auc"] <= 1
