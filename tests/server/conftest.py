"""One federation of real processes for all tests of this room: it takes twenty seconds to come up."""

from collections.abc import Iterator

import pytest

from tests.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as made:
        yield made
