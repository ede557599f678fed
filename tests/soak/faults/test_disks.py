"""A disk that is full."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deployment import Deployment
from tests.soak.faults.runs import charged_once_for_one_model

pytestmark = pytest.mark.soak


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A folder on a disk of its own, and what fills that disk; afterwards everything is where it was."""
    content, ballast = folder.with_name(f"{folder.name}-content"), folder / "ballast"
    shutil.copytree(folder, content)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)], check=True)

    def fill() -> None:
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        shutil.copytree(content, folder, dirs_exist_ok=True)
        yield fill
        ballast.unlink()
        shutil.rmtree(content)
        shutil.copytree(folder, content)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree(folder)
    content.rename(folder)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@needs_root
def test_a_full_disk_at_a_client_leaves_it_out(deployment: Deployment) -> None:
    deployment.end("south")
    with small_disk(deployment.root / "south") as fill:
        deployment.begin("south")
        assert "round 2/2  3/3 clients" in deployment.run(deployment.config(9)).ends()
        before = deployment.charges("south")
        fill()
        said = deployment.run(deployment.config(18)).ends()
        assert "south excluded: no space is left on the disk" in said
        assert "round 2/2  2/2 clients" in said
        assert deployment.charges("south") == before
        deployment.end("south")
    deployment.begin("south")
    assert "round 2/2  3/3 clients" in deployment.run(deployment.config(10)).ends()
    charged_once_for_one_model(deployment, 2)


@needs_root
def test_a_full_disk_at_the_coordinator_ends_the_run_which_is_resumed(deployment: Deployment) -> None:
    deployment.end("server")
    (deployment.home / "workspace").mkdir(exist_ok=True)
    with small_disk(deployment.home / "workspace") as fill:
        deployment.begin("server")
        run = deployment.run(deployment.config(11, training__rounds=5))
        run.says("round 1/5")
        fill()
        assert "no space is left on the disk" in run.ends(code=7)
        (deployment.home / "workspace" / "ballast").unlink()
        said = deployment.run(deployment.config(11, training__rounds=5)).ends()
        assert "round 1/5" not in said
        assert "round 5/5  3/3 clients" in said
        (deployment.home / "workspace" / "ballast").touch()
        deployment.end("server")
    deployment.begin("server")
    charged_once_for_one_model(deployment, 5)
