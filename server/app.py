"""The Flower ServerApp: the lifecycle over whatever grid Flower gives it.

Flower starts it with `flwr run`; the run config names the configuration file and the workspace. The ClientApp on the
other side is the one of the simulation. What happens is written down in the workspace, one event a line, for whoever
follows the run.
"""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pipeline.config import Config
from pipeline.configfile import load_config
from pipeline.console import JsonLines
from pipeline.engine import ray_engine
from pipeline.lifecycle import Outcome, run_lifecycle
from pipeline.metadata import new_run
from pipeline.report import Report
from pipeline.workspace import Workspace
from privacy.errors import ConfigError, SottovoceError
from server.roster import NODES, Roster

REPORT, ERROR, END = "Report", "Error", "End"
"""Lines that are no events. A log without `End` while nobody holds the workspace was cut off, and is resumed."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the lifecycle. Raises ConfigError when the run config does not name a configuration."""
    settings = {name: str(value) for name, value in context.run_config.items()}
    if not settings.get("config"):
        raise ConfigError("the run config names no configuration", remedy="flwr run --run-config 'config=\"PATH\"'")
    config = load_config(Path(settings["config"]))
    workspace = Workspace(Path(settings.get("workspace") or "sottovoce-workspace"), config.storage)
    roster = Path(settings["roster"]) if settings.get("roster") else None
    run = settings["run"] if re.fullmatch("[0-9a-f]{8}", settings.get("run", "")) else new_run()
    with open(log_of(workspace.root, run), "a", buffering=1) as log:
        lines = JsonLines(log)
        with ExitStack() as held:  # the workspace, until the last word is said: who let go without one was cut off
            try:
                held.enter_context(workspace.locked())
                outcome = _run(config, grid, workspace, roster, lines, run)
                lines.tell(REPORT, Report.of(outcome, workspace).model_dump(mode="json"))
            except SottovoceError as error:
                lines.tell(ERROR, {"code": error.code, "cause": error.cause, "remedy": error.remedy})
                lines.tell(END, {})
                raise
            lines.tell(END, {})


def log_of(workspace: Path, run: str) -> Path:
    """Where the driver of a run writes what happens."""
    return workspace / f"run-{run}.jsonl"


def _run(config: Config, grid: Grid, workspace: Workspace, roster: Path | None, lines: JsonLines, run: str) -> Outcome:
    admitted = Roster(roster).admitted(roster.with_name(NODES)) if roster else None
    stop = signal.getsignal(signal.SIGTERM)
    with ray_engine():
        signal.signal(signal.SIGTERM, stop)  # ray.init put its own handler over Flower's
        return run_lifecycle(config, grid, workspace, lines, admitted, run)
