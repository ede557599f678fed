"""Beam: the exported pipeline runs to its end, again for nothing, and fails at the stage that fails."""

from pathlib import Path

import pytest

from tests.interop.support import call, environment, exported, lifecycle, once_each
from tests.test_cli import sottovoce

pytestmark = pytest.mark.interop

BIN = environment("beam")


def test_the_pipeline_runs_and_does_nothing_twice(tmp_path: Path) -> None:
    config, workspace = lifecycle(tmp_path), tmp_path / "w"
    made = exported("beam", config, "--workspace", workspace)
    done = call([BIN / "python", made, "--run", "nightly/1", "--wait", "1"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert once_each(workspace)
    more = ["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    done = call([BIN / "python", made, "--run", "nightly/1", "--wait", "1", *more])
    assert done.returncode == 0, done.stderr[-3000:]
    assert once_each(workspace)
    assert len(sottovoce("runs", "list", "--workspace", workspace).stdout.splitlines()) == 1
    done = call([BIN / "python", made, "--run", "nightly/2", "--set", "training.rouns=4"])
    assert done.returncode != 0
    assert "design: exit 2" in done.stderr
    assert "training: exit" not in done.stderr
