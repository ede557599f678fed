"""One federation for all faults: clients accept sums of two, so that a run can go on without the third."""

from collections.abc import Iterator

import pytest

from tests.deployment import GROUPS, Deployment, deployed


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("faults"), min_cohort=2) as made:
        yield made


@pytest.fixture(autouse=True)
def everyone_is_there(deployment: Deployment) -> Iterator[None]:
    """Whoever a test has left dead is started again, and waited for until the SuperLink lets it in."""
    yield
    for name in ("server", *GROUPS):
        if deployment.processes[name].poll() is not None:
            deployment.begin(name)
