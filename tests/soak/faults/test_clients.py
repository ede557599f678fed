"""Clients that are killed, leave, fall silent, or are too few."""

import pytest

from clients.home import Home
from pipeline.store.workspace import Workspace
from tests.deployment import Deployment, family, wait_for
from tests.soak.faults.runs import LONG, charged_once_for_one_model

pytestmark = pytest.mark.soak


def in_the_middle_of(deployment: Deployment, name: str, round: int) -> None:
    """Wait until `name` has reserved this round and not committed it."""

    def training() -> bool:
        rows = Home(deployment.root / name).ledger.rows()
        return bool(rows) and rows[-1].kind == "reserve" and rows[-1].id.endswith(f"/train/{round}")

    wait_for(training, 120, f"{name} to be in round {round}", pause=0.02)


def test_a_client_killed_before_its_reply_comes_back(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(1, training__rounds=40, training__local_epochs=150))
    in_the_middle_of(deployment, "south", 2)
    deployment.kill("south")
    deployment.begin("south")
    said = run.ends()
    assert "south excluded: it is not connected" in said
    assert "2/3 clients" in said
    assert "round 40/40  3/3 clients" in said, "it caught up from the kept aggregates"
    taken = charged_once_for_one_model(deployment, 40)
    assert any("south" not in names for names in taken.values())
    assert "south" in taken[40]


def test_a_client_killed_after_its_reply_comes_back(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(2, **LONG))
    run.says("round 2/4")
    deployment.kill("south")
    deployment.begin("south")
    run.ends()
    charged_once_for_one_model(deployment, 4)


def test_a_client_that_leaves_for_good_is_done_without(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(3, training__rounds=60, training__local_epochs=150))
    in_the_middle_of(deployment, "centre", 2)
    deployment.kill("centre")
    said = run.ends()
    assert "centre excluded" in said
    assert "round 60/60  2/2 clients" in said, "the rest has agreed on a new group key"
    assert charged_once_for_one_model(deployment, 60)[60] == ["east", "south"]
    deployment.begin("centre")
    assert "round 1/2  3/3 clients" in deployment.run(deployment.config(4)).ends(), "and it may come back another day"


def test_a_client_that_never_answers_is_left_behind_at_the_deadline_and_catches_up(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(5, federation__timeout=25.0, **LONG))
    run.says("round 1/4")
    stopped = family(deployment.processes["south"])
    for process in stopped:
        process.suspend()
    try:
        run.says("south excluded: no answer in 25 s")
    finally:
        for process in stopped:
            process.resume()
    said = run.ends()
    assert "round 4/4" in said
    charged_once_for_one_model(deployment, 4)
    assert "round 1/2  3/3 clients" in deployment.run(deployment.config(6)).ends(), "a late reply harms nothing"


def test_below_the_minimum_cohort_the_run_pauses_and_is_resumed(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(7, **LONG))
    run.says("round 1/4")
    deployment.kill("south")
    deployment.kill("centre")
    said = run.ends(code=5)
    assert "error[cohort-too-small]" in said
    assert "Nothing was applied" in said
    deployment.begin("south")
    deployment.begin("centre")
    workspace = Workspace(deployment.home / "workspace")
    metadata = workspace.metadata()
    number = metadata.runs()[0].id
    metadata.close()
    again = deployment.run("--resume", number).ends()
    assert "round 1/4" not in again
    assert "round 4/4" in again
    charged_once_for_one_model(deployment, 4)
