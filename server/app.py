"""The Flower ServerApp: the lifecycle over whatever grid Flower gives it.

Flower starts it with `flwr run`; the run config names the configuration file and the workspace. The ClientApp on the
other side is the one of the simulation.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TextIO

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pipeline.config import Config
from pipeline.configfile import load_config
from pipeline.console import PlainLines
from pipeline.engine import ray_engine
from pipeline.lifecycle import run_lifecycle
from pipeline.workspace import Workspace
from privacy.errors import ConfigError, SottovoceError
from server.roster import NODES, Roster

END = "-- end of the run"
"""Last line of a run's log. One that lacks it while nobody holds the workspace was cut off, and is resumed."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the lifecycle. Raises ConfigError when the run config does not name a configuration."""
    path = str(context.run_config.get("config", ""))
    if not path:
        raise ConfigError("the run config names no configuration", remedy="flwr run --run-config 'config=\"PATH\"'")
    config = load_config(Path(path))
    workspace = Workspace(Path(str(context.run_config.get("workspace") or "sottovoce-workspace")), config.storage)
    roster = str(context.run_config.get("roster", ""))
    with open(workspace.root / f"run-{context.run_id}.log", "a", buffering=1) as log:
        try:
            with workspace.locked():
                _run(config, grid, workspace, Path(roster) if roster else None, log)
                log.write(f"{END}\n")
        except SottovoceError as error:
            log.write(f"error[{error.code}]  {error.cause}  {error.remedy}\n{END}\n")
            raise


def _run(config: Config, grid: Grid, workspace: Workspace, roster: Path | None, log: TextIO) -> None:
    admitted = Roster(roster).admitted(roster.with_name(NODES)) if roster else None
    stop = signal.getsignal(signal.SIGTERM)
    with ray_engine():
        signal.signal(signal.SIGTERM, stop)  # ray.init put its own handler over Flower's
        outcome = run_lifecycle(config, grid, workspace, PlainLines(log), admitted)
    version, metrics = outcome.version, outcome.evaluation.metrics
    champion = "champion" if outcome.deployment.promoted else f"not champion: {'; '.join(outcome.verdict.reasons)}"
    log.write(f"{version.name} v{version.version}  ROC-AUC {metrics['roc_auc']:.3f}  {champion}\n")
    log.write(f"{version.privacy.text}\n")
