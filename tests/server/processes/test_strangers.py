"""Who may not come in, and who is in and lies: over real processes, as each of them would try it."""

import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import yaml

from clients.home import Home
from clients.policy import ClientPolicy
from pipeline.host.services import free_port, program, python_environment
from pipeline.language.card import ClientCard
from server.coordinator.home import CoordinatorHome
from server.coordinator.roster import flwr
from server.coordinator.runs import Runs
from tests.deployment import GROUPS, Deployment, family, wait_for


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


def test_a_client_that_was_not_admitted_stays_outside(deployment: Deployment) -> None:
    deployment.init("stranger", deployment.root / "east.csv")
    deployment.start("stranger", "client", "start", "stranger")
    wait_for(lambda: b"supernode ended" in (deployment.root / "stranger.out").read_bytes(), 60, "a refusal")

    def told() -> bool:  # between two tries it is connecting again
        return "ask its operator whether your card is admitted" in deployment.command("client", "status", "stranger")

    wait_for(told, 60, "the owner to be told")
    assert "SuperNode ID" not in (deployment.root / "stranger" / "logs" / "supernode.log").read_text()
    deployment.command("client", "stop", "stranger")
    assert "is not running" in deployment.command("client", "status", "stranger")


def test_a_client_starts_only_towards_whom_its_certificate_vouches_for(deployment: Deployment) -> None:
    deployment.command("server", "init", deployment.root / "elsewhere", "--name", "elsewhere")
    deployment.init("misled", deployment.root / "east.csv", deployment.root / "elsewhere" / "ca.crt")
    said = deployment.command("client", "start", "misled", code=2)
    assert f"the certificate of localhost:{deployment.port} was not issued by" in said
    assert "compare it over the phone" in said
    connection = deployment.root / "misled" / "connection.yaml"
    connection.write_text(f"coordinator: 127.0.0.2:{deployment.port}\n")
    assert not (deployment.root / "misled" / "logs").exists(), "nothing was started"


def test_a_stock_supernode_without_a_key_or_without_the_certificate_gets_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    trusted = ("--root-certificates", str(deployment.home / "ca.crt"))
    for name, options in {"keyless": trusted, "trusting": ("--insecure",), "public": ()}.items():
        log = tmp_path / f"{name}.log"
        with log.open("wb") as out:
            command = [program("flower-supernode"), "--superlink", f"localhost:{deployment.port}", *options]
            command += ["--host", "127.0.0.1", "--port", str(free_port())]
            process = subprocess.Popen(command, env=python_environment(tmp_path / name), stdout=out, stderr=out)
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:  # it goes on trying
            process.terminate()
            process.wait(20)
        assert "SuperNode ID" not in log.read_text(), name


def test_names_and_fingerprints_cannot_be_taken(deployment: Deployment) -> None:
    deployment.init("impostor", deployment.root / "east.csv")
    home = ("--home", deployment.home)
    fingerprint = ClientCard.read(deployment.root / "impostor" / "card.json").fingerprint
    card = deployment.root / "impostor" / "card.json"
    wrong = ("--fingerprint", "0000 " * 8)
    assert "you heard another" in deployment.command("server", "roster", "add", card, *wrong, *home, code=4)
    posing = deployment.root / "posing.json"
    posing.write_text(card.read_text().replace('"impostor"', '"east"'))
    assert "not signed by the keys on it" in deployment.command(
        *("server", "roster", "add", posing, "--fingerprint", fingerprint), *home, code=2
    )
    impostor = Home(deployment.root / "impostor").identity
    posing.write_text(ClientCard.signed("east", impostor, ClientCard.read(card).node_key).model_dump_json())
    said = ("--fingerprint", ClientCard.read(posing).fingerprint)
    assert "east is admitted with fingerprint" in deployment.command(
        "server", "roster", "add", posing, *said, *home, code=4
    )
    posing.write_text("{}")
    assert "not a client's card" in deployment.command("server", "roster", "add", posing, *said, *home, code=2)
    assert fingerprint not in deployment.command("server", "roster", "list", *home)


def test_a_node_that_calls_itself_by_another_s_name_is_left_out(deployment: Deployment) -> None:
    """Admitted as itself, it answers under another name, with a policy and a ledger to match."""
    root = deployment.root / "south"
    policy, ledgers = (root / "policy.yaml").read_text(), root / "ledgers"
    for kind in ("jsonl", "head"):
        (ledgers / f"east.{kind}").write_bytes((ledgers / f"south.{kind}").read_bytes())
    (root / "policy.yaml").write_text(policy.replace("name: south", "name: east"))
    try:
        said = deployment.command("run", deployment.config(5, federation__timeout=20.0), *at(deployment), code=5)
    finally:
        (root / "policy.yaml").write_text(policy)
        for kind in ("jsonl", "head"):
            (ledgers / f"east.{kind}").unlink()
    assert "client east excluded: the roster has no such client at this node" in said
    assert "joining: 2 of 3 clients answered" in said, "the true one is not mistaken for it"


def trained(deployment: Deployment) -> list[str]:
    """What centre was charged for but its checks: those of a snapshot it may have answered before."""
    return [charge for charge in deployment.charges("centre") if "/validate/" not in charge]


def test_what_a_policy_forbids_is_not_done_whoever_asks(deployment: Deployment) -> None:
    home = Home(deployment.root / "centre")
    before, charged = (home.root / "policy.yaml").read_text(), trained(deployment)
    for change, told in {
        "allowed_actions": (
            [action for action in yaml.safe_load(before)["allowed_actions"] if action != "train"],
            "this client's policy does not allow the action train",
        ),
        "max_parameters": (10, "this client's policy allows 10"),
        "forbidden_columns": (["lab"], "column lab may not be used"),
    }.items():
        value, reason = told
        changed = ClientPolicy.model_validate({**yaml.safe_load(before), change: value})
        Home.write_policy(home.root, changed)
        try:
            said = deployment.command("run", deployment.config(6), *at(deployment), code=5)
        finally:
            (home.root / "policy.yaml").write_text(before)
        assert f"client centre excluded: {reason}" in said or "client centre excluded: a model of" in said
        assert reason in said
    assert trained(deployment) == charged


def test_a_coordinator_that_gives_one_client_another_model_gets_no_sum(deployment: Deployment) -> None:
    honest = next(p for p in family(deployment.processes["server"]) if "server.executor" in " ".join(p.cmdline()))
    arguments = honest.cmdline()[-4:]
    command = [sys.executable, "-m", "tests.server.processes.hostile_executor", "south", *arguments]
    honest.suspend()
    with (deployment.root / "hostile.log").open("wb") as out:
        liar = subprocess.Popen(command, env=python_environment(deployment.home / "flwr"), stdout=out, stderr=out)
    try:
        said = deployment.command("run", deployment.config(7), *at(deployment), code=5)
    finally:
        liar.send_signal(signal.SIGTERM)
        liar.wait(30)
        honest.resume()
    assert "client south excluded: the upload is not signed" in said
    assert "round 1/2" not in said
    for name in GROUPS:
        execution = deployment.charges(name)[-1].partition("/")[0]
        assert deployment.charges(name, execution) == [f"{execution}/train/1"]
        state = deployment.root / name / "executions" / execution
        assert not (state / "opened-train.json").exists(), "nobody opened a sum"


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
    run = deployment.run(deployment.config(8))
    run.ends()
    known = home.root / "runs" / Runs(home).submission(run.id).config
    elsewhere = deployment.root / "elsewhere-workspace"
    settings = f'config="{known}" workspace="{elsewhere}" roster="" run="../x"'
    number = flwr(home, "run", str(bundle), "here", "--run-config", settings)["run-id"]
    state = Runs(home).state
    wait_for(lambda: state(number).startswith("finished"), 120, "the end of the run", pause=2)
    assert state(number) == "finished:completed"
    assert not elsewhere.exists(), "workspace and roster are those of the home, whatever is submitted"
    other = f'config="{deployment.config(4)}" workspace="{home.workspace}" roster="" run="../x"'
    number = flwr(home, "run", str(bundle), "here", "--run-config", other)["run-id"]
    wait_for(lambda: state(number).startswith("finished"), 120, "the end of the run", pause=2)
    assert state(number) == "finished:failed", "a configuration that was not submitted here is none"
    run_at = trace.read_text().splitlines() if trace.exists() else []
    assert all(path.startswith(str(bundle)) for path in run_at), "only who submits it looks at it, in its own process"


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


def at(deployment: Deployment) -> tuple[str, Path]:
    return "--home", deployment.home
