"""A federation's processes open no door that nobody asked for: all of them listen on loopback here."""

import time
from pathlib import Path

from tests.deployment import GROUPS, Deployment
from tests.sockets import Listening, attack, listening


def test_a_deployed_run_listens_on_loopback(deployment: Deployment, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    run = deployment.run(deployment.config(41))
    seen: set[Listening] = set()
    while run.process.poll() is None:
        for process in [*deployment.processes.values(), run.process]:
            seen |= listening(process.pid)
        time.sleep(0.2)
    run.ends()
    assert {place for place in seen if not place.on_loopback} == set()
    commands = " ".join(place.command for place in seen)
    for name in ("superlink", "server.coordinator.gateway", "supernode"):
        assert name in commands, f"{name} was seen"
    now = {place for process in deployment.processes.values() for place in listening(process.pid)}
    attack(now, trace)
    assert not trace.exists(), "nothing that was sent was unpickled"
    for name in GROUPS:
        assert "runs" in deployment.command("client", "status", name)
