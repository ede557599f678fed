"""A coordinator, or a service of it, that is killed at any moment."""

import sqlite3
import time
from contextlib import closing
from random import Random

import psutil
import pytest

from tests.deployment import Deployment, family, wait_for
from tests.soak.faults.runs import charged_once_for_one_model, stages_done

pytestmark = pytest.mark.soak

MOMENTS = (
    *("submitted", "ingestion ...", "validation ...", "preprocessing ...", "training ...", "round 2/3"),
    *("evaluation ...", "blessing ...", "registration ...", "deployment ..."),
)


@pytest.mark.parametrize("away", [2, 75], ids=["within Flower's minute", "after it"])
@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=MOMENTS)
def test_a_coordinator_killed_at_any_stage_goes_on(deployment: Deployment, number: int, away: int) -> None:
    run = deployment.run(deployment.config(100 + number + 50 * (away > 60), training__rounds=3))
    run.says(MOMENTS[number])
    deployment.kill("server")
    time.sleep(away)
    deployment.begin("server")
    said = run.ends()
    stages_done(deployment, said)
    assert said.count("round 3/3") == 1
    charged_once_for_one_model(deployment, 3)


def test_a_coordinator_whose_flower_state_is_lost_goes_on(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(17, training__rounds=3))
    run.says("round 1/3")
    deployment.kill("server")
    (deployment.home / "nodes.json").unlink()
    deployment.begin("server")
    stages_done(deployment, run.ends())
    charged_once_for_one_model(deployment, 3)


def kill_service(deployment: Deployment, service: str) -> None:
    names = {"superlink": "flower-superlink", "executor": "server.executor", "gateway": "server.coordinator.gateway"}

    def victims() -> list[psutil.Process]:
        return [
            process
            for process in family(deployment.processes["server"])
            if process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
            and names[service] in " ".join(process.cmdline())
        ]

    wait_for(lambda: bool(victims()), 30, f"a {service}")
    victims()[0].kill()


@pytest.mark.parametrize("service", ["superlink", "executor", "gateway"])
def test_a_killed_service_of_the_coordinator_does_not_end_the_run(deployment: Deployment, service: str) -> None:
    run = deployment.run(deployment.config(200 + len(service), training__rounds=3))
    run.says("round 1/3")
    kill_service(deployment, service)
    stages_done(deployment, run.ends())
    charged_once_for_one_model(deployment, 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_services_killed_in_round_after_round_do_not_end_the_run(deployment: Deployment, seed: int) -> None:
    """At any moment of a round: messages on their way out, at work, replies on their way back."""
    moments, rounds = Random(seed), 10
    run = deployment.run(deployment.config(230 + seed, training__rounds=rounds))
    for number in range(1, rounds):
        run.says(f"round {number}/{rounds} ", 240)
        time.sleep(moments.uniform(0, 2))
        kill_service(deployment, moments.choice(["superlink", "superlink", "gateway"]))
    said = run.ends()
    stages_done(deployment, said)
    assert said.count("3/3 clients") == rounds
    charged_once_for_one_model(deployment, rounds)


def test_a_database_that_a_backup_locks_is_waited_for(deployment: Deployment) -> None:
    """For longer than any library waits: the SuperLink answers 500 meanwhile, and every node asks again."""
    run = deployment.run(deployment.config(260, training__rounds=3))
    run.says("round 1/3")
    [path] = deployment.home.glob("state.db")
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as backup:
        backup.execute("BEGIN EXCLUSIVE")
        time.sleep(45)
        backup.execute("ROLLBACK")
    stages_done(deployment, run.ends())
    charged_once_for_one_model(deployment, 3)
