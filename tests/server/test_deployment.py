"""The federation's commands over real processes: TLS, authentication, refusals, restarts."""

import socket
import ssl
from collections.abc import Iterator

import httpx
import psutil
import pytest

from pipeline.card import ClientCard
from pipeline.services import listens
from pipeline.workspace import Workspace
from server.home import CoordinatorHome
from server.roster import flwr
from server.runs import Runs
from tests.deployment import GROUPS, Deployment, deployed, family, wait_for


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as made:
        yield made


def test_a_run_over_the_federation_trains_one_model_and_charges_each_client(deployment: Deployment) -> None:
    text = deployment.command("run", deployment.config(0), "--home", deployment.home)
    assert "round 2/2  3/3 clients" in text
    assert "stay v1" in text
    metadata = Workspace(deployment.home / "workspace").metadata()
    (finished,) = metadata.runs()
    metadata.close()
    assert finished.state == "COMPLETE"
    for name in GROUPS:
        charged = [charge.partition("/")[2] for charge in deployment.charges(name)]
        assert charged == ["train/1", "train/2", "evaluate/1"]
    status = deployment.command("client", "status", "east")
    assert "east runs (process" in status
    assert "of 200" in status
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
    wait_for(lambda: "does not come from your ca.crt" in deployment.command("client", "status", "misled"), 60, "why")
    assert "ask its operator whether your card is admitted" in deployment.command("client", "status", "stranger")
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
    config = deployment.config(1, federation__timeout=180.0)
    text = deployment.command("run", config, "--home", deployment.home)
    assert "round 2/2  3/3 clients" in text
    for name in ("east", "south"):
        assert "started again" in (deployment.root / f"{name}.out").read_text()


def test_a_coordinator_killed_in_mid_round_goes_on_by_itself_when_it_is_started(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(3, training__rounds=3))
    run.says("round 1/3")
    deployment.kill("server")
    run.says("goes on when it is started")
    deployment.begin("server")
    said = run.ends()
    assert "resumed as run" in said
    for told in ("round 1/3", "round 3/3", "ingestion done", "training done"):
        assert said.count(told) == 1, told
    for name in GROUPS:
        execution = deployment.charges(name)[-1].partition("/")[0]
        (trained,) = {charge.partition("/")[0] for charge in deployment.charges(name)[-4:-1]}
        assert deployment.charges(name, trained) == [f"{trained}/train/{number}" for number in (1, 2, 3)]
        assert deployment.charges(name, execution) == [f"{execution}/evaluate/1"]
    resumed = said.split("resumed as run ")[1].split()[0]
    assert "there is no run 7" in deployment.command("server", "attach", 7, "--home", deployment.home, code=7)
    assert "is done" in deployment.command("server", "attach", resumed, "--home", deployment.home)


def test_code_in_a_bundle_runs_nowhere(deployment: Deployment) -> None:
    """Whoever reaches the SuperLink on loopback can submit a bundle of its own: it gets a run of the lifecycle."""
    bundle, trace = deployment.root / "hostile", deployment.root / "trace"
    for package in ("server", "clients"):
        (bundle / package).mkdir(parents=True)
    note = f"open({str(trace)!r}, 'a').write(__file__ + chr(10))"
    evil = f"{note}\nfrom flwr.serverapp import ServerApp\napp = ServerApp()\n"
    for name in ("server/__init__.py", "server/app.py", "clients/__init__.py", "clients/app.py", "evil.py"):
        (bundle / name).write_text(evil)
    ours = (deployment.home / "bundle" / "pyproject.toml").read_text()
    (bundle / "pyproject.toml").write_text(
        ours.replace('["README.md"]', '["**/*.py"]').replace("server.app:app", "evil:app")
    )
    home = CoordinatorHome(deployment.home)
    settings = f'config="{deployment.config(4)}" workspace="{home.workspace}" roster="{home.root}/roster.json"'
    number = flwr(home, "run", str(bundle), "here", "--run-config", settings)["run-id"]
    state = Runs(home).state
    wait_for(lambda: state(number).startswith("finished"), 120, "the end of the run", pause=2)
    assert state(number) == "finished:completed"
    run_at = trace.read_text().splitlines() if trace.exists() else []
    assert all(path.startswith(str(bundle)) for path in run_at), "only who submits it looks at it, in its own process"


def test_one_home_runs_one_node_and_one_coordinator(deployment: Deployment) -> None:
    assert "a node runs on" in deployment.command("client", "start", "east", code=8)
    assert "a coordinator runs in" in deployment.command("server", "start", deployment.home, code=8)


def test_a_revoked_client_is_out_and_the_run_says_who_is_missing(deployment: Deployment) -> None:
    home = ("--home", deployment.home)
    before = deployment.charges("east")
    deployment.command("server", "roster", "revoke", "centre", *home)
    assert "REVOKED" in deployment.command("server", "roster", "list", *home)
    card = deployment.root / "centre" / "card.json"
    said = ("--fingerprint", ClientCard.read(card).fingerprint)
    assert "was revoked" in deployment.command("server", "roster", "add", card, *said, *home, code=4)
    text = deployment.command("run", deployment.config(2, federation__timeout=20.0), *home, code=5)
    assert "joining: 2 of" in text
    assert deployment.charges("east") == before
