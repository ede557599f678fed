"""The same apps under Flower's own engine: one SuperLink, SuperNodes on loopback, `flwr run`. Plain; hardened later."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from clients.home import Home
from pipeline.environment import quiet_environment
from pipeline.workspace import Workspace
from tests.support import configured, homes_for, write_config, write_table

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """A process and its children, stopped by their process ids."""
    with log.open("w") as out:
        process = psutil.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            family = [*process.children(recursive=True), process]
            for member in family:
                if member.is_running():
                    member.terminate()
            for member in psutil.wait_procs(family, timeout=10)[1]:
                member.kill()
            process.wait()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


def test_a_superlink_and_three_supernodes_train_one_model(tmp_path: Path) -> None:
    quiet_environment()
    path = write_table(tmp_path)
    partitions = {"east": ["east", "north"], "south": ["south", "west"], "centre": ["centre", "harbour"]}
    changes = {"simulation__partitions": partitions, "federation__min_cohort": 3, "training__rounds": 2}
    changes["federation__expected_clients"] = 3
    changes["federation__timeout"] = 120.0
    homes = homes_for(configured(path, **changes), tmp_path / "homes")
    config = write_config(tmp_path / "stay.yaml", path, **changes)

    app = tmp_path / "app"
    app.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, app / name)

    binaries = Path(sys.executable).parent
    link, *nodes = free_ports(4)
    # Flower's processes unload and reload modules, which a coverage tracer inside them does not survive.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "COV"))}
    env["PATH"] = f"{binaries}:{env['PATH']}"

    def home_env(name: str) -> dict[str, str]:
        folder = tmp_path / "flwr" / name
        folder.mkdir(parents=True)
        return {**env, "FLWR_HOME": str(folder)}

    user = home_env("user")
    (tmp_path / "flwr" / "user" / "config.toml").write_text(
        f'[superlink]\ndefault = "lab"\n\n[superlink.lab]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
    )
    flwr = str(binaries / "flwr")
    with ExitStack() as stack:
        superlink = [str(binaries / "flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(link)]
        stack.enter_context(running(superlink, home_env("link"), tmp_path / "link.log"))
        wait_for_port(link)
        for (name, home), port in zip(homes.items(), nodes, strict=True):
            supernode = [str(binaries / "flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{link}"]
            supernode += ["--host", "127.0.0.1", "--port", str(port), "--node-config", f'home="{home}"']
            stack.enter_context(running(supernode, home_env(name), tmp_path / f"{name}.log"))
        run_config = f'config="{config}" workspace="{tmp_path / "w"}"'
        submitted = subprocess.run(
            [flwr, "run", str(app), "lab", "--run-config", run_config, "--format", "json"],
            env=user,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr + (tmp_path / "link.log").read_text()
        run = str(json.loads(submitted.stdout)["run-id"])
        deadline = time.monotonic() + 400
        status = ""
        while not status.startswith("finished") and time.monotonic() < deadline:
            time.sleep(2)
            listed = subprocess.run(
                [flwr, "list", "lab", "--run-id", run, "--format", "json"],
                env=user,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            status = json.loads(listed.stdout)["runs"][0]["status"] if listed.returncode == 0 else listed.stdout
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted(tmp_path.glob("*.log")))
        assert status == "finished:completed", f"{status}\n{logs}"

    metadata = Workspace(tmp_path / "w").metadata()
    (finished,) = metadata.runs()
    assert finished.state == "COMPLETE"
    for home in homes.values():
        charged = [row.id.split("/")[1:] for row in Home(home).ledger.rows() if row.kind == "reserve"]
        assert charged == [["train", "1"], ["train", "2"], ["evaluate", "1"]]
    metadata.close()
