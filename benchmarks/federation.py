"""A federation of three nodes on loopback: ten rounds with privacy, encryption and authentication, beside Flower's own.

    python -m benchmarks.federation

Flower as its quickstart has it (a process a message, stock FedAvg) trains a smaller model without privacy, encryption,
TLS or authentication, on the same rows and in the same run of this program. It only trains: its quickstart evaluates in
every round too, which doubles its messages.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.host.services import Service, Services, free_port, program, python_environment
from tests.deployment import GROUPS, deployed

ROUNDS = 10


def ours(root: Path) -> dict[str, float]:
    """Seconds of a run: everything, training, a round, a round trip."""
    with deployed(root) as deployment:
        begun = time.monotonic()
        said = deployment.run(deployment.config(1, training__rounds=ROUNDS)).ends()
        whole = time.monotonic() - begun
    rounds = [float(found) for found in re.findall(rf"round \d+/{ROUNDS}  3/3.* ([\d.]+) s", said)]
    stages = {name: float(seconds) for name, seconds in re.findall(r"(\w+) done in ([\d.]+) s", said)}
    trips = [stages[name] for name in ("ingestion", "validation", "preprocessing")]
    return {"whole": whole, "training": stages["training"], "round": statistics.median(rounds), "trip": max(trips)}


def flowers(root: Path) -> float:
    """Seconds from `flwr run` to the end of its ten rounds."""
    link, stopped, up = free_port(), threading.Event(), threading.Event()
    env = python_environment(root / "flwr")
    (root / "flwr" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{link}"\ninsecure = true\n'
    )
    superlink = [program("flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(link)]
    services = [Service("superlink", superlink, env, link)]
    for name in GROUPS:
        command = [program("flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{link}"]
        command += ["--host", "127.0.0.1", "--port", str(free_port())]
        command += ["--node-config", f"data={json.dumps(str(root / f'{name}.csv'))}"]
        services.append(Service(name, command, {**env, "FLWR_HOME": str(root / f"flwr-{name}")}))
    family = threading.Thread(target=Services(services, root / "logs").run, args=(stopped, up.set, print))
    family.start()
    try:
        up.wait(60)
        time.sleep(10)  # until the nodes are connected
        begun = time.monotonic()
        number = flwr(env, "run", str(Path(__file__).parent / "quickstart"), "here")["run-id"]
        while not (status := flwr(env, "list", "here", "--run-id", number)["runs"][0]["status"]).startswith("finished"):
            time.sleep(1)
        assert status == "finished:completed", status
        return time.monotonic() - begun
    finally:
        stopped.set()
        family.join()


def flwr(env: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [program("flwr"), *arguments, "--format", "json"]
    answer = dict(json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout))
    if not answer["success"]:
        raise RuntimeError(f"flwr {arguments[0]}: {answer}")
    return answer


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mine = ours(Path(folder))
        stock = flowers(Path(folder))
    print(f"## Three nodes on loopback, {ROUNDS} rounds")
    print(f"  Sottovoce   whole run {mine['whole']:.1f} s (bound 60), of that training {mine['training']:.1f} s")
    print(f"              round {mine['round']:.1f} s   slowest round trip {mine['trip']:.1f} s (bound 4)")
    print(
        f"  Flower      {stock:.1f} s for its rounds, {stock / ROUNDS:.1f} s each   ratio {stock / mine['whole']:.1f}x"
    )


if __name__ == "__main__":
    main()
