"""Two hundred rounds of six clients in one plain process; prints what it holds after 50 of them and at the end.

A process of its own, because a test runner keeps notes (logs, warnings) that grow with the rounds.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from pathlib import Path

import psutil

from pipeline.engine.cluster import ray_engine
from pipeline.engine.progress import Event, RoundFinished
from pipeline.lifecycle import run_lifecycle
from pipeline.store.workspace import Workspace
from tests.support import LocalGrid, configured, homes_for, write_table


def main(folder: Path, rounds: int) -> None:
    config = configured(write_table(folder), training__rounds=rounds, training__local_epochs=1)
    workspace = Workspace(folder / "workspace", config.storage)
    homes = homes_for(config, workspace.clients)
    grid = LocalGrid(homes)
    process, libc = psutil.Process(), ctypes.CDLL(None)

    def watch(event: Event) -> None:
        grid.replies.clear()  # notes of the grid that tests use
        grid.sent.clear()
        if isinstance(event, RoundFinished) and event.round in (50, rounds):
            gc.collect()
            # What the allocator keeps for later is held by nobody.
            libc.malloc_trim(0)
            files = sum(len(names) for home in homes.values() for _, _, names in os.walk(home))
            measured = {"memory": process.memory_info().rss, "descriptors": process.num_fds(), "files": files}
            tell(measured)

    with ray_engine():
        outcome = run_lifecycle(config, grid, workspace, watch)
    tell({"spent": outcome.model.spent, "homes": [str(home) for home in homes.values()]})


def tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
