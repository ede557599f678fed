"""Six clients of a table nobody has seen, and a coordinator that lies to them."""

from pathlib import Path

import pytest

from pipeline.language.config import Config
from tests.adversary.coordinator import Coordinator
from tests.support import configured, homes_for


@pytest.fixture
def liar(config: Config, tmp_path: Path) -> Coordinator:
    made = Coordinator(homes_for(config, tmp_path / "clients"), config)
    made.prepare()
    return made


@pytest.fixture
def generous(dataset: Path, tmp_path: Path) -> Coordinator:
    """Over clients whose budget is no limit."""
    config = configured(dataset, simulation__lifetime_epsilon=1000.0)
    made = Coordinator(homes_for(config, tmp_path / "clients"), config)
    made.prepare()
    return made
