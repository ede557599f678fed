"""The Flower ServerApp: the lifecycle over whatever grid Flower gives it.

Flower starts it with `flwr run`; the run config names the configuration file and the workspace. The ClientApp on the
other side is the one of the simulation.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pipeline.config import Config
from pipeline.configfile import load_config
from pipeline.console import PlainLines
from pipeline.engine import ray_engine
from pipeline.lifecycle import Outcome, run_lifecycle
from pipeline.progress import Progress
from pipeline.workspace import Workspace
from privacy.errors import ConfigError, SottovoceError
from server.roster import Roster

END = "-- end of the run"
"""Last line of a run's log, written while the workspace is held. A log that lacks it was cut off, and is resumed."""

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
    admitted = Roster(Path(roster)).admitted() if roster else None
    log_path = workspace.root / f"run-{context.run_id}.log"
    with workspace.locked(), open(log_path, "a", buffering=1) as log:
        try:
            outcome = _run(config, grid, workspace, PlainLines(log), admitted)
        except SottovoceError as error:
            log.write(f"error[{error.code}]  {error.cause}  {error.remedy}\n{END}\n")
            raise
        version, metrics = outcome.version, outcome.evaluation.metrics
        champion = "champion" if outcome.deployment.promoted else f"not champion: {'; '.join(outcome.verdict.reasons)}"
        log.write(f"{version.name} v{version.version}  ROC-AUC {metrics['roc_auc']:.3f}  {champion}\n")
        log.write(f"{version.privacy.text}\n{END}\n")


def _run(
    config: Config, grid: Grid, workspace: Workspace, progress: Progress, admitted: Mapping[str, str] | None
) -> Outcome:
    stop = signal.getsignal(signal.SIGTERM)
    with ray_engine():
        signal.signal(signal.SIGTERM, stop)  # ray.init put its own handler over Flower's
        return run_lifecycle(config, grid, workspace, progress, admitted)
