"""A federation of real processes on loopback, through the commands its people use: TLS, authentication, faults."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from clients.home import Home
from pipeline.card import ClientCard
from pipeline.services import free_port, listens
from pipeline.workspace import Workspace
from tests.support import settings, table

SOTTOVOCE = str(Path(sys.executable).parent / "sottovoce")
GROUPS = {"east": ["east", "north"], "south": ["south", "west"], "centre": ["centre", "harbour"]}


@dataclass
class Deployment:
    """One coordinator and its clients, each in a process of its own."""

    root: Path
    port: int
    link_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "server"

    def command(self, *arguments: object, code: int = 0) -> str:
        """Run one command of `sottovoce` to its end."""
        done = subprocess.run(
            [SOTTOVOCE, *map(str, arguments)],
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout + done.stderr

    def start(self, name: str, *arguments: object) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [SOTTOVOCE, *map(str, arguments)],
                cwd=self.root,
                env=environment(),
                stdout=out,
                stderr=out,
            )

    def init(self, name: str, source: Path, authority: Path | None = None) -> None:
        self.command(
            *("client", "init", name, "--name", name, "--source", source, "--lifetime-epsilon", 20),
            *("--min-cohort", 3, "--min-rows", 50, "--forbid", "shoe_size"),
            *("--coordinator", f"localhost:{self.port}", "--ca", authority or self.home / "ca.crt"),
        )

    def admit(self, name: str) -> None:
        card = self.root / name / "card.json"
        fingerprint = ClientCard.read(card).fingerprint
        self.command("server", "roster", "add", card, "--home", self.home, "--fingerprint", fingerprint)

    def supernode_says(self, name: str, text: str, seconds: float = 60) -> None:
        log = self.root / name / "logs" / "supernode.log"
        wait_for(lambda: log.exists() and text in log.read_text(errors="replace"), seconds, f"{name} to say {text}")

    def logs(self) -> str:
        found = [*self.root.glob("*.out"), *self.root.glob("*/logs/*.log"), *self.root.glob("*/client.log")]
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(found))

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(60)


def environment() -> dict[str, str]:
    """Without the token of the Ray that other tests share."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}


def wait_for(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Three admitted clients, running."""
    made = Deployment(tmp_path_factory.mktemp("deployment"), free_port(), free_port())
    rows = table()
    for name, wards in GROUPS.items():
        rows[rows["ward"].isin(wards)].drop(columns="ward").to_csv(made.root / f"{name}.csv", index=False)
    tree = settings(Path("nowhere"), training__rounds=2)
    del tree["simulation"]
    tree["federation"] = {"min_cohort": 3, "expected_clients": 3, "timeout": 120.0}
    (made.root / "stay.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    ports = ("--port", made.port, "--link-port", made.link_port)
    made.command("server", "init", made.home, *ports)
    try:
        made.start("server", "server", "start", made.home)
        wait_for(lambda: listens(made.port), 60, f"the gateway\n{made.logs()}")
        for name in GROUPS:
            made.init(name, made.root / f"{name}.csv")
            made.admit(name)
            made.start(name, "client", "start", name)
        for name in GROUPS:
            made.supernode_says(name, "SuperNode ID")
        yield made
    finally:
        children = [child for process in made.processes.values() if process.poll() is None for child in family(process)]
        made.stop()
        left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        assert left == [], "who is stopped leaves nobody behind"


def test_a_run_over_the_federation_trains_one_model_and_charges_each_client(deployment: Deployment) -> None:
    text = deployment.command("run", "stay.yaml", "--home", deployment.home)
    assert "round 2/2  3/3 clients" in text
    assert "stay v1" in text
    metadata = Workspace(deployment.home / "workspace").metadata()
    (finished,) = metadata.runs()
    metadata.close()
    assert finished.state == "COMPLETE"
    for name in GROUPS:
        charged = [row.id.split("/")[1:] for row in Home(deployment.root / name).ledger.rows() if row.kind == "reserve"]
        assert charged == [["train", "1"], ["train", "2"], ["evaluate", "1"]]
    status = deployment.command("client", "status", "east")
    assert "east runs (process" in status
    assert "of 20" in status
    assert "reserve" in deployment.command("client", "ledger", "east")
    assert "shoe_size" in deployment.command("client", "policy", "east")


def test_only_the_fleet_api_is_reachable_from_outside(deployment: Deployment) -> None:
    trusted = ssl.create_default_context(cafile=str(deployment.home / "ca.crt"))
    with httpx.Client(base_url=f"https://localhost:{deployment.port}", verify=trusted) as stranger:
        for path in (
            *("/v1/control/list-nodes", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/"),
            *(
                "/v1/fleet/../control/list-nodes",
                "/v1/fleet/%2e%2e/control/list-nodes",
                "/v1/fleet//v1/control/list-nodes",
            ),
            *("//v1/control/list-nodes", "/V1/CONTROL/list-nodes"),
        ):
            for method in ("GET", "POST", "OPTIONS"):
                answer = stranger.request(method, path, content=b"")
                assert answer.status_code in (404, 405), (method, path, answer.status_code)
        for call in ("register-node", "activate-node", "pull-messages", "push-messages", "get-run"):
            headers = {"content-type": "application/protobuf"}
            unsigned = stranger.post(f"/v1/fleet/{call}", content=b"", headers=headers)
            assert unsigned.status_code in (400, 401, 403), "the fleet API asks who is there"
    with socket.create_connection(("localhost", deployment.port), timeout=5) as plain:
        plain.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" not in plain.recv(100), "nothing without TLS"
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in (deployment.port, deployment.link_port):
            assert connection.laddr.ip == "127.0.0.1"


def test_a_client_that_was_not_admitted_stays_outside_and_so_does_one_with_another_certificate(
    deployment: Deployment,
) -> None:
    deployment.command("server", "init", deployment.root / "elsewhere", "--name", "elsewhere")
    deployment.init("stranger", deployment.root / "east.csv")
    deployment.init("misled", deployment.root / "east.csv", deployment.root / "elsewhere" / "ca.crt")
    for name in ("stranger", "misled"):
        deployment.start(name, "client", "start", name)
    wait_for(lambda: b"supernode ended" in (deployment.root / "stranger.out").read_bytes(), 60, "a refusal")
    for name in ("stranger", "misled"):
        assert "SuperNode ID" not in (deployment.root / name / "logs" / "supernode.log").read_text()
        deployment.command("client", "stop", name)
        assert "is not running" in deployment.command("client", "status", name)


def test_names_and_fingerprints_cannot_be_taken(deployment: Deployment) -> None:
    home = ("--home", deployment.home)
    fingerprint = ClientCard.read(deployment.root / "stranger" / "card.json").fingerprint
    card = deployment.root / "stranger" / "card.json"
    wrong = ("--fingerprint", "0000 " * 8)
    assert "you heard another" in deployment.command("server", "roster", "add", card, *wrong, *home, code=4)
    posing = deployment.root / "posing.json"
    posing.write_text(card.read_text().replace('"stranger"', '"east"'))
    said = ("--fingerprint", ClientCard.read(posing).fingerprint)
    assert "east is admitted with fingerprint" in deployment.command(
        "server", "roster", "add", posing, *said, *home, code=4
    )
    posing.write_text("{}")
    assert "not a client's card" in deployment.command("server", "roster", "add", posing, *said, *home, code=2)
    assert fingerprint not in deployment.command("server", "roster", "list", *home)


def test_a_killed_supernode_executor_and_gateway_come_back(deployment: Deployment) -> None:
    kinds = {"east": "clients.supernode", "south": "clients.executor", "server": "server.gateway"}
    victims = [
        next(child for child in family(deployment.processes[name]) if kind in " ".join(child.cmdline()))
        for name, kind in kinds.items()
    ]
    for victim in victims:
        victim.kill()
    wait_for(lambda: all(not victim.is_running() or victim.status() == "zombie" for victim in victims), 10, "their end")
    wait_for(lambda: listens(deployment.port), 60, "the gateway to come back")
    tree = yaml.safe_load((deployment.root / "stay.yaml").read_text())
    tree["training"]["seed"] = 1
    tree["federation"]["timeout"] = 180.0
    (deployment.root / "again.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    text = deployment.command("run", "again.yaml", "--home", deployment.home)
    assert "round 2/2  3/3 clients" in text
    for name in ("east", "south"):
        assert "started again" in (deployment.root / f"{name}.out").read_text()


def test_one_home_runs_one_node_and_one_coordinator(deployment: Deployment) -> None:
    assert "a node runs on" in deployment.command("client", "start", "east", code=8)
    assert "a coordinator runs in" in deployment.command("server", "start", deployment.home, code=8)


def test_a_revoked_client_is_out_and_the_run_says_who_is_missing(deployment: Deployment) -> None:
    home = ("--home", deployment.home)
    deployment.command("server", "roster", "revoke", "centre", *home)
    assert "REVOKED" in deployment.command("server", "roster", "list", *home)
    card = deployment.root / "centre" / "card.json"
    said = ("--fingerprint", ClientCard.read(card).fingerprint)
    assert "was revoked" in deployment.command("server", "roster", "add", card, *said, *home, code=4)
    tree = yaml.safe_load((deployment.root / "stay.yaml").read_text())
    tree["training"]["seed"] = 2
    tree["federation"]["timeout"] = 20.0
    (deployment.root / "without.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    text = deployment.command("run", "without.yaml", *home, code=5)
    assert "joining: 2 of" in text
    assert len([row for row in Home(deployment.root / "east").ledger.rows() if row.kind == "reserve"]) == 6
