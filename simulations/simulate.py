"""A whole run in simulation: homes, Ray, the grid, the lifecycle."""

from __future__ import annotations

import os

from pipeline.engine.progress import Notice, Progress
from pipeline.language.config import Config
from pipeline.lifecycle import WHOLE, Outcome, Part, run_lifecycle
from pipeline.store.workspace import Workspace
from simulations.grid import RayGrid
from simulations.homes import prepare_homes, told_policy

CLIENT_APP = "clients.app:app"


def simulate(config: Config, workspace: Workspace, progress: Progress, part: Part = WHOLE) -> Outcome | None:
    """Run the lifecycle over simulated clients, or a part of it. The caller holds the workspace and has started Ray."""
    homes = prepare_homes(config, workspace.clients)
    progress(Notice(told_policy(homes)))
    nodes = [{"home": str(home)} for home in homes.values()]
    workers = (config.simulation.workers if config.simulation else None) or os.cpu_count() or 1
    with RayGrid(CLIENT_APP, nodes, workers=workers) as grid:
        return run_lifecycle(config, grid, workspace, progress, part=part)
