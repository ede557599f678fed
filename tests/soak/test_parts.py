"""Nine processes, one a stage, each killed once at a random moment and repeated: one model, one charge each."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.lifecycle import lifecycle_dag
from tests.support import write_config, write_table
from tests.test_cli import SOTTOVOCE, sottovoce
from tests.test_parts import charged

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_nine_processes_are_as_one(tmp_path: Path, seed: int | None) -> None:
    """seed: of the moments at which a process is killed; None: none is."""
    config = write_config(tmp_path / "stay.yaml", write_table(tmp_path), training__rounds=4, training__local_epochs=20)
    place, draw = ("--workspace", str(tmp_path / "w")), random.Random(seed)
    for stage in lifecycle_dag().order:
        command = ["simulate", str(config), *place, "--run", "nightly", "--until", stage]
        if seed is not None:
            process = subprocess.Popen([*SOTTOVOCE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(1.0, 14.0))
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            time.sleep(3)  # until the last worker has noticed
        done = sottovoce(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    expected = {("evaluate/1", *(f"train/{number}" for number in range(1, 5)), "validate/1")}
    assert charged(tmp_path / "w") == expected
    whole = sottovoce("simulate", config, *place, "--json")
    events = [json.loads(line) for line in whole.stdout.splitlines()]
    executed = {event["stage"] for event in events if event["event"] == "StageFinished" and not event["cached"]}
    assert executed == {"enrolment", "blessing", "deployment"}, "the keys are those of one process"
    assert charged(tmp_path / "w") == expected
