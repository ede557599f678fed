"""Two hundred rounds of a deployed federation keep memory, files and descriptors flat."""

import psutil
import pytest

from tests.deployment import Deployment
from tests.soak.faults.runs import charged_once_for_one_model

pytestmark = pytest.mark.soak

ROLES = (
    "clients.node.supernode",
    "clients.node.executor",
    "flower-superlink",
    "server.executor",
    "server.coordinator.gateway",
)


def held(deployment: Deployment) -> dict[str, tuple[int, int, int]]:
    """Memory in bytes and descriptors of every lasting process, and files of its home beside the run's checkpoints."""
    found = {}
    for name, process in deployment.processes.items():
        home = deployment.home if name == "server" else deployment.root / name
        files = sum(path.is_file() and "artifacts" not in path.parts for path in home.rglob("*"))
        for child in psutil.Process(process.pid).children():
            role = next(role for role in ROLES if role in " ".join(child.cmdline()))
            found[f"{name}: {role}"] = (child.memory_info().rss, child.num_fds(), files)
            if role == "server.executor":
                (driver,) = (fork for fork in child.children() if fork.cmdline() == child.cmdline())
                found["driver"] = (driver.memory_info().rss, driver.num_fds(), files)
    return found


def test_two_hundred_rounds_leave_nothing_behind_on_either_side(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(16, training__rounds=200, training__local_epochs=1))
    run.says("round 50/200", 400)
    early = held(deployment)
    run.says("round 199/200", 900)
    late = held(deployment)
    run.ends(seconds=200)
    assert early.keys() == late.keys()
    for process, (memory, descriptors, files) in late.items():
        before = early[process]
        assert memory - before[0] < 30e6, (process, before[0], memory)
        assert descriptors - before[1] <= 4, (process, before[1], descriptors)
        assert files - before[2] <= 2, (process, before[2], files)
    charged_once_for_one_model(deployment, 200)
