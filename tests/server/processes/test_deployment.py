"""The federation's commands over real processes: TLS, authentication, refusals, restarts."""

import time

from pipeline.host.locking import locked
from pipeline.host.services import listens
from pipeline.lifecycle import lifecycle_dag
from pipeline.store.workspace import Workspace
from server.coordinator.home import CoordinatorHome
from server.coordinator.runs import TEND_SECONDS, Runs, Submission
from tests.deployment import GROUPS, Deployment, family, wait_for


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
        assert charged == ["validate/1", "train/1", "train/2", "evaluate/1"]
    status = deployment.command("client", "status", "east")
    assert "east runs (process" in status
    assert "of 200" in status
    assert "reserve" in deployment.command("client", "ledger", "east")
    assert "shoe_size" in deployment.command("client", "policy", "east")


def test_a_killed_supernode_executor_and_gateway_come_back(deployment: Deployment) -> None:
    kinds = {"east": "clients.node.supernode", "south": "clients.node.executor", "server": "server.coordinator.gateway"}
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
    home = ("--home", deployment.home)
    assert "0 runs begin with 'none'" in deployment.command("runs", "attach", "none", *home, code=7)
    told = deployment.command("runs", "attach", run.id[:6], *home)
    assert "resumed as run" in told
    assert "Model stay v" in told
    assert said.count("round 1/3") == told.count("round 1/3") == 1


def test_a_run_in_parts_attaches_to_what_is_under_way(deployment: Deployment) -> None:
    config, home = deployment.config(7, training__rounds=3, training__local_epochs=40), ("--home", deployment.home)
    refused = deployment.command("run", config, *home, "--run", "nightly/7", "--until", "trainign", code=2)
    assert "Did you mean training?" in refused
    submissions = len(list((deployment.home / "runs").glob("*.json")))
    first = deployment.run(config, "--run", "nightly/7", "--until", "training")
    first.says("round 1/3")
    first.process.kill()
    again = deployment.run(config, "--run", "nightly/7", "--until", "training")
    said = again.ends()
    assert again.id == first.id, "what is under way is not submitted once more"
    assert "training done" in said
    assert "Model stay" not in said
    assert len(list((deployment.home / "runs").glob("*.json"))) == submissions + 1
    other = ("--set", "training.seed=70")
    refused = deployment.command("run", config, *other, *home, "--run", "nightly/7", code=2)
    assert "another configuration" in refused
    told = deployment.command("run", config, *home, "--run", "nightly/7")
    assert "training unchanged" in told
    assert "enrolment unchanged" in told
    assert "Model stay v" in told
    stages = deployment.command("stages", "nightly/7", "--workspace", deployment.home / "workspace")
    assert [line.split()[1] for line in stages.splitlines()] == ["done"] * len(lifecycle_dag().order)
    for name in GROUPS:
        charged = [charge.partition("/")[2] for charge in deployment.charges(name)[-4:]]
        assert charged == ["train/1", "train/2", "train/3", "evaluate/1"]


def test_a_run_that_is_just_being_submitted_is_not_taken_for_one_that_was_cut_off(deployment: Deployment) -> None:
    runs, folder, new = Runs(CoordinatorHome(deployment.home)), deployment.home / "runs", "00000000"
    config = runs.submission(next(folder.glob("*.json")).stem).config
    with locked(folder / "lock"):  # as Flower's command line does for seconds
        (folder / f"{new}.json").write_text(Submission(config=config).model_dump_json())
        time.sleep(4 * TEND_SECONDS)
        assert runs.submission(new).followed_by is None
    wait_for(lambda: runs.submission(new).followed_by is not None, 60, "the run whose submission was cut off")
    assert "resumed as run" in deployment.command("runs", "attach", new, "--home", deployment.home)


def test_one_home_runs_one_node_and_one_coordinator(deployment: Deployment) -> None:
    assert "a node runs on" in deployment.command("client", "start", "east", code=8)
    assert "a coordinator runs in" in deployment.command("server", "start", deployment.home, code=8)
