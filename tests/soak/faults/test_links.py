"""A link that is slow, repeats, delays, reorders and loses, and messages that are large."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deployment import GROUPS, Deployment
from tests.soak.faults.runs import charged_once_for_one_model
from tests.soak.postman import Postman
from tests.soak.throttle import Throttle

pytestmark = pytest.mark.soak


@contextmanager
def through(deployment: Deployment, name: str, port: int) -> Iterator[None]:
    """A client that reaches the coordinator by another port."""
    connection = deployment.root / name / "connection.yaml"
    whole = connection.read_text()
    deployment.end(name)
    connection.write_text(f"coordinator: localhost:{port}\n")
    deployment.begin(name)
    try:
        yield
    finally:
        deployment.end(name)
        connection.write_text(whole)
        deployment.begin(name)


def test_a_slow_link_costs_time_and_nothing_else(deployment: Deployment) -> None:
    """By a relay, as where the kernel cannot limit a link; tests/soak/test_machines.py has it limited by the kernel."""
    with Throttle(deployment.port, bytes_per_second=100_000, delay=0.1) as throttle:
        with through(deployment, "south", throttle.port):
            said = deployment.run(deployment.config(12, model__hidden=[200])).ends(seconds=400)
        assert "round 2/2  3/3 clients" in said
        assert throttle.passed > 100_000
    charged_once_for_one_model(deployment, 2)


def test_calls_that_come_twice_late_and_in_another_order(deployment: Deployment) -> None:
    with (
        Postman(deployment.port, deployment.home / "ca", deployment.root, latest=1.0) as postman,
        through(deployment, "south", postman.port),
    ):
        said = deployment.run(deployment.config(22, training__rounds=6)).ends(seconds=400)
    assert "round 6/6  3/3 clients" in said, postman.counts
    assert postman.counts["a message once more"] >= 2
    assert postman.counts["push-object twice"] >= 6
    taken = charged_once_for_one_model(deployment, 6)
    assert all(names == sorted(GROUPS) for names in taken.values()), (taken, postman.counts)


def test_a_message_lost_on_its_way_is_sent_once_more(deployment: Deployment) -> None:
    """The SuperLink has handed it out, the client has never seen it."""
    changes = {"training__rounds": 4, "federation__timeout": 40.0}
    with (
        Postman(deployment.port, deployment.home / "ca", deployment.root, latest=0.1) as postman,
        through(deployment, "south", postman.port),
    ):
        run = deployment.run(deployment.config(24, **changes))
        run.says("round 1/4")
        postman.lose = 1
        said = run.ends(seconds=400)
    assert postman.counts["a message lost"] == 1
    assert "round 4/4  3/3 clients" in said
    taken = charged_once_for_one_model(deployment, 4)
    assert all(names == sorted(GROUPS) for names in taken.values()), taken


def test_updates_of_fifty_megabytes(deployment: Deployment) -> None:
    changes = {"model__hidden": [5000, 4000], "training__rounds": 1, "training__local_epochs": 1}
    said = deployment.run(
        deployment.config(15, training__expected_batch=256, federation__timeout=500.0, **changes)
    ).ends(seconds=900)
    line = next(line for line in said.splitlines() if "round 1/1" in line)
    assert "3/3 clients" in line
    assert float(line.partition("up ")[2].split()[0]) > 3 * 50, line
