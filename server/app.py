"""The Flower ServerApp: the lifecycle over whatever grid Flower gives it.

Flower starts it with `flwr run`; the run config names the configuration file and the workspace. The ClientApp on the
other side is the one of the simulation. What happens is written down in the workspace, one event a line, for whoever
follows the run.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pipeline.engine.cluster import ray_engine
from pipeline.federation.rounds import largest
from pipeline.language.changing import changed
from pipeline.language.config import Config
from pipeline.language.configfile import load_config
from pipeline.learning.features import FeatureSpec
from pipeline.lifecycle import Outcome, Part, run_lifecycle
from pipeline.reporting.console import JsonLines
from pipeline.reporting.page.page import leave_page
from pipeline.reporting.report import Report
from pipeline.store.metadata import new_run
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, SottovoceError
from privacy.layout import Layout
from privacy.wire import SCHEMES, Format
from server.coordinator.allowance import note_reply
from server.coordinator.roster import NODES, Roster
from server.coordinator.runlog import END, ERROR, REPORT, log_of

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
    part = Part(settings.get("of") or run, settings.get("until") or None)
    with open(log_of(workspace.root, run), "a", buffering=1) as log:
        lines = JsonLines(log)
        with ExitStack() as held:  # the workspace, until the last word is said: who let go without one was cut off
            try:
                held.enter_context(workspace.locked())
                try:
                    outcome = _run(config, grid, workspace, roster, lines, part)
                except SottovoceError:
                    leave_page(workspace)
                    raise
                if outcome:
                    page = leave_page(workspace, outcome.run)
                    lines.tell(REPORT, Report.of(outcome, workspace, page).model_dump(mode="json"))
            except SottovoceError as error:
                lines.tell(ERROR, {"code": error.code, "cause": error.cause, "remedy": error.remedy})
                lines.tell(END, {})
                raise
            lines.tell(END, {})


def reply_bytes(config: Config, clients: int) -> int:
    """The largest vector that a client of this run sends: its sealed update, whatever a search may choose."""
    wanted = [
        changed(config, {path: value}, "tuning.space") for path, s in config.tuning.space.items() for value in s.ends
    ]
    return max(_reply_bytes(one, clients) for one in (config, *wanted))


def _reply_bytes(config: Config, clients: int) -> int:
    layout = Layout.for_cohort(max(2, clients))
    spec = FeatureSpec.of(config.data)
    net = config.model.net(spec.shape, spec.task.outputs, config.training.seed)
    coefficients = max(largest(net, spec.task, layout), spec.task.question(config.evaluation.bins).size)
    return max(Format(scheme, layout, Layout.blocks(coefficients)).upload_bytes for scheme in SCHEMES)


def _run(
    config: Config, grid: Grid, workspace: Workspace, roster: Path | None, lines: JsonLines, part: Part
) -> Outcome | None:
    admitted = Roster(roster).admitted(roster.with_name(NODES)) if roster else None
    if roster:  # a run of a coordinator: its gateway wants to know
        note_reply(roster.parent, reply_bytes(config, len(admitted or ())))
    with ray_engine(workspace.scratch):
        return run_lifecycle(config, grid, workspace, lines, admitted, part)
