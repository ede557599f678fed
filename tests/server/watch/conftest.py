"""A federation with its watcher, for each test."""

from pathlib import Path

import pytest

from tests.server.watch.place import WATCH, Place
from tests.support import configured


@pytest.fixture
def place(tmp_path: Path, dataset: Path) -> Place:
    return Place(tmp_path, configured(dataset, registration__promotion="earned", watch=WATCH))
