"""A federation across two machines whose link the kernel limits. Run by `make soak`."""

from collections.abc import Iterator

import pytest

from tests.deployment import Deployment, deployed
from tests.machines import Machine, needs_machines, two_machines

pytestmark = [pytest.mark.soak, needs_machines]

NAME = "coordinator.test"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    with two_machines({NAME: 0}) as pair:
        yield pair


@pytest.fixture(scope="module")
def deployment(machines: tuple[Machine, Machine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The coordinator and two clients on one machine, the third client on the other."""
    here, there = machines
    places = {"server": here, "east": here, "centre": here, "south": there}
    with deployed(tmp_path_factory.mktemp("machines"), 2, NAME, places) as made:
        yield made


@pytest.mark.parametrize(
    ("seed", "bits", "hidden"), [(1, 1_000_000, [400]), (2, 2_000_000, [1500, 1000]), (3, 30_000_000, [5000, 4000])]
)
def test_a_link_that_the_kernel_limits_costs_time_and_nothing_else(
    deployment: Deployment, machines: tuple[Machine, Machine], seed: int, bits: int, hidden: list[int]
) -> None:
    """The largest is an update of 60 MB."""
    for machine in machines:
        machine.limit(bits)
    try:
        changes = {"model__hidden": hidden, "training__rounds": 2, "training__local_epochs": 1}
        config = deployment.config(seed, federation__timeout=900.0, training__expected_batch=256, **changes)
        said = deployment.run(config).ends(seconds=1800)
    finally:
        for machine in machines:
            machine.limit(None)
    assert "round 2/2  3/3 clients" in said
    assert "excluded" not in said
    trained = [deployment.charges(name)[-3:-1] for name in ("east", "south")]
    assert trained[0] == trained[1], "each round once"
    rounds = deployment.final_model()
    assert all(len(names) == 3 for names in rounds.values())
