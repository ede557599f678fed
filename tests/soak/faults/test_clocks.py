"""A wall clock that jumps."""

import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deployment import Deployment, wait_for
from tests.soak.faults.runs import LONG, charged_once_for_one_model, stages_done

pytestmark = pytest.mark.soak

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="a clock of its own is compiled")


@contextmanager
def clock_of(deployment: Deployment, name: str) -> Iterator[Callable[[float], None]]:
    """Start it anew with a wall clock that can be set, in seconds from the true one; afterwards with the true one."""
    library, setting = deployment.root / "clock.so", deployment.root / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)

    def set_clock(seconds: float) -> None:
        with setting.open("r+b" if setting.exists() else "wb") as file:  # in place: the processes have it mapped
            file.write(struct.pack("d", seconds))

    set_clock(0)
    deployment.end(name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("CLOCK_FILE", str(setting))
        deployment.begin(name)
    try:
        yield set_clock
    finally:
        deployment.end(name)
        deployment.begin(name)


@needs_cc
def test_the_clock_of_a_client_jumps(deployment: Deployment) -> None:
    """It is let go while it cannot prove who it is, and catches up once its clock is right."""
    with clock_of(deployment, "south") as set_clock:
        run = deployment.run(deployment.config(13, training__rounds=60, training__local_epochs=150))
        run.says("round 1/60")
        set_clock(5 * 3600)
        run.says("south excluded", 180)
        wait_for(lambda: "clock" in deployment.command("client", "status", "south"), 90, "it to name its clock")
        set_clock(0)
        said = run.ends(seconds=600)
        assert "2/2 clients" in said or "2/3 clients" in said
        assert "round 60/60  3/3 clients" in said
        charged_once_for_one_model(deployment, 60)


@needs_cc
@pytest.mark.parametrize(("seed", "jump"), [(19, 5 * 3600), (20, -5 * 3600), (21, 120)])
def test_the_clock_of_the_coordinator_jumps(deployment: Deployment, seed: int, jump: float) -> None:
    with clock_of(deployment, "server") as set_clock:
        run = deployment.run(deployment.config(seed, **LONG))
        run.says("round 1/4")
        set_clock(jump)
        time.sleep(15)
        set_clock(0)
        stages_done(deployment, run.ends(seconds=600))
        charged_once_for_one_model(deployment, 4)
