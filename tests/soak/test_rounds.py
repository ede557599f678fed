"""Two hundred rounds keep memory, files and descriptors flat, at the clients and here. Run by `make soak`."""

import ctypes
import gc
import os
from pathlib import Path

import psutil
import pytest

from clients.home import Home
from pipeline.lifecycle import run_lifecycle
from pipeline.progress import Event, RoundFinished
from pipeline.workspace import Workspace
from tests.support import LocalGrid, configured, homes_for

ROUNDS = 200


@pytest.mark.soak
def test_two_hundred_rounds_leave_nothing_behind(engine: None, tmp_path: Path, dataset: Path) -> None:
    config = configured(dataset, training__rounds=ROUNDS, training__local_epochs=1)
    workspace = Workspace(tmp_path, config.storage)
    homes = homes_for(config, workspace.clients)
    process = psutil.Process()
    measured: dict[int, tuple[int, int, int]] = {}

    grid = LocalGrid(homes)

    def watch(event: Event) -> None:
        grid.replies.clear()  # the test's own notes are not what is measured
        grid.sent.clear()
        if isinstance(event, RoundFinished) and event.round in (50, ROUNDS):
            gc.collect()
            # What the allocator keeps for later is not held by anyone; accounting of ever longer histories leaves some.
            ctypes.CDLL(None).malloc_trim(0)
            files = sum(len(names) for home in homes.values() for _, _, names in os.walk(home))
            measured[event.round] = (process.memory_info().rss, process.num_fds(), files)

    outcome = run_lifecycle(config, grid, workspace, watch)
    (memory, descriptors, files), (memory_after, descriptors_after, files_after) = measured[50], measured[ROUNDS]
    assert memory_after - memory < 30e6
    assert descriptors_after <= descriptors + 2
    assert files_after == files
    assert all(spent is not None and spent <= 3.0 for spent in outcome.model.spent.values())
    for home in homes.values():
        charged = [row.id for row in Home(home).ledger.rows() if row.kind == "reserve"]
        assert len(charged) == len(set(charged)) == ROUNDS + 1
