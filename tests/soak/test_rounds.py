"""Two hundred rounds keep memory, files and descriptors flat, at the clients and here. Run by `make soak`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clients.home import Home
from pipeline.host.environment import quiet_environment

ROUNDS = 200


@pytest.mark.soak
def test_two_hundred_rounds_leave_nothing_behind(tmp_path: Path) -> None:
    quiet_environment()  # the allocator as the workers of a run have it
    command = [sys.executable, "-m", "tests.soak.rounds", str(tmp_path), str(ROUNDS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1200, check=True)
    early, late, outcome = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert late["memory"] - early["memory"] < 30e6
    assert late["descriptors"] <= early["descriptors"] + 2
    assert late["files"] == early["files"]
    assert all(spent <= 3.0 for spent in outcome["spent"].values())
    for home in outcome["homes"]:
        charged = [row.id for row in Home(Path(home)).ledger.rows() if row.kind == "reserve"]
        assert len(charged) == len(set(charged)) == ROUNDS + 2, "the checks, each round, the evaluation"
