"""One federation of real processes for all tests of this folder: it takes twenty seconds to come up.

It ends with the folder's last test: three nodes that look for work slow down whatever is tested next.
"""

from collections.abc import Iterator

import pytest

from tests.deployment import Deployment, deployed


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as made:
        yield made
