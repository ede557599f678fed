"""sottovoce simulate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import Expect, RunName, Until

if TYPE_CHECKING:
    from pipeline.language.config import Config
    from pipeline.lifecycle import Outcome, Part
    from pipeline.reporting.report import Report
    from pipeline.store.workspace import Workspace
    from server.serving.running import Endpoint

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "crash-fatality.yaml"


def simulate(
    config: Annotated[Path, typer.Argument(help="Configuration; default: seven crash registries.")] = DEFAULT_CONFIG,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of artifacts, versions and simulated clients.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an earlier run, in its configuration.")
    ] = None,
    run: RunName = None,
    until: Until = None,
    expect: Expect = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Serve the champion for a moment and ask it one question.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run a whole federation on this machine: from data to a registered, private model.

    What did not change since an earlier run in the workspace is not run again and not charged again.
    """
    from pipeline.host.environment import quiet_environment
    from pipeline.language.configfile import load_config
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    if ask and until:
        raise ConfigError("--ask asks the champion at the end of a run, --until ends before", remedy="Leave out one.")
    if resume:
        if overrides or expect or config != DEFAULT_CONFIG:
            raise ConfigError(
                "--resume takes the configuration of the run, and no other",
                remedy="Leave out CONFIG, --set and --expect; or --resume: what did not change is not run again.",
            )
        settings = Workspace.existing(workspace or DEFAULT).recorded_config(resume)
    else:
        settings = load_config(config, overrides or [], expect)
    space = Workspace(workspace or DEFAULT, settings.storage)
    quiet_environment()
    with space.locked():
        _run(settings, space, _part(settings, space, run, until), ask=ask, as_json=as_json)


def tune(
    config: Annotated[Path, typer.Argument(help="Configuration with a tuning.space.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of artifacts, versions and simulated clients.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Search among settings on rows that are nobody's; a run of the same configuration goes on with the winner.

    It costs no budget but that of the statistics which synthetic rows are drawn from.
    """
    from pipeline.host.environment import quiet_environment
    from pipeline.language.configfile import load_config
    from pipeline.lifecycle import Part
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    settings = load_config(config, overrides or [])
    if not settings.tuning.space:
        raise ConfigError(
            "the configuration searches nothing: tuning.space is empty",
            remedy="Name settings, such as: tuning: {space: {training.learning_rate: {low: 0.05, high: 1, log: true}}}",
        )
    space = Workspace(workspace or DEFAULT, settings.storage)
    part = Part(until="tuning")
    part.check(settings, space)
    quiet_environment()
    with space.locked():
        _run(settings, space, part, ask=False, as_json=as_json)


def statistics(
    config: Annotated[Path, typer.Argument(help="Configuration; default: seven crash registries.")] = DEFAULT_CONFIG,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of artifacts, versions and simulated clients.")] = None,
    of: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Show those of an earlier run, simulated or not."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """How the data of all clients together is distributed: noisy counts in one encrypted sum, and what follows.

    Asked once and charged once (`statistics.epsilon_share`); a whole run of the same configuration uses them again.
    """
    from pipeline.host.environment import quiet_environment
    from pipeline.language.configfile import load_config
    from pipeline.lifecycle import Part
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    if of:
        _show_statistics(Workspace.existing(workspace or DEFAULT), of, as_json=as_json)
        return
    settings = load_config(config, overrides or [])
    if not settings.statistics.epsilon_share:
        raise ConfigError(
            "the configuration pays for no statistics",
            remedy="Set statistics.epsilon_share, say to 0.3: --set statistics.epsilon_share=0.3",
        )
    space = Workspace(workspace or DEFAULT, settings.storage)
    quiet_environment()
    with space.locked():
        _run(settings, space, Part(until="statistics"), ask=False, as_json=as_json)
        metadata = space.metadata()
        run = metadata.runs()[0].id
        metadata.close()
        _show_statistics(space, run, as_json=as_json)


def _show_statistics(space: Workspace, run: str, *, as_json: bool) -> None:
    from rich.console import Console

    from pipeline.kinds import INSTALLED
    from pipeline.reporting.distributions import figures, print_distributions
    from pipeline.stages.values import StatisticsReport
    from privacy.errors import NotFound

    metadata = space.metadata()
    try:
        found = metadata.run(run)
        executions = [one for one, _ in metadata.executions_of(found.id) if one.stage == "statistics"]
        digest = metadata.output(executions[-1].id, "statistics_report") if executions else None
    finally:
        metadata.close()
    if digest is None:
        raise NotFound(f"run {run} has no statistics", remedy="Ask for them: sottovoce statistics CONFIG")
    report = StatisticsReport.model_validate_json(space.artifacts().get(digest), context=INSTALLED)
    if as_json:
        print(json.dumps({"event": "Statistics", "run": found.id, "figures": figures(report)}), flush=True)
    else:
        print_distributions(report, Console(highlight=False, soft_wrap=True))


def _part(settings: Config, space: Workspace, run: str | None, until: str | None) -> Part:
    """What is asked for, checked before Ray takes its seconds to start."""
    from pipeline.lifecycle import WHOLE, Part
    from pipeline.store.metadata import run_id

    if not run and not until:
        return WHOLE
    part = Part(run_id(run) if run else None, until)
    part.check(settings, space)
    return part


def _run(settings: Config, space: Workspace, part: Part, *, ask: bool, as_json: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pipeline.engine.cluster import ray_engine
    from pipeline.reporting.console import showing
    from pipeline.reporting.page.page import leave_page
    from pipeline.reporting.report import Report
    from pipeline.store.registry import Registry
    from privacy.errors import SottovoceError
    from simulations.homes import prepare_homes

    prepare_homes(settings, space.clients)  # a wrong data set is known before Ray takes its seconds to start
    from simulations.simulate import simulate as run  # before Ray starts: its threads import too, and flwr minds

    with ray_engine(space.scratch), ThreadPoolExecutor(max_workers=1) as aside:
        endpoint = aside.submit(_open_endpoint, settings, space) if ask else None
        if not part.until:
            Registry(space.registry_url, space.models).warm()
        with showing(as_json=as_json) as progress:
            try:
                outcome = run(settings, space, progress, part)
            except SottovoceError:
                leave_page(space)
                raise
        if outcome is None:
            return
        answer = _ask(settings, outcome, endpoint.result().url) if endpoint else None
        report = Report.of(outcome, space, leave_page(space, outcome.run))
        if as_json:
            print(json.dumps({"event": "Report", **report.model_dump(mode="json"), "answer": answer}), flush=True)
        else:
            _print(report, answer)
        if endpoint:
            endpoint.result().stop()


def _open_endpoint(settings: Config, space: Workspace) -> Endpoint:
    """Serve starts beside the run and waits for the champion. A taken port is replaced by a free one."""
    from privacy.errors import PortInUse
    from server.serving.gateway.listening import check_port
    from server.serving.running import start_endpoint

    config = settings.serving.model_copy(update={"grpc_port": None})  # one question is asked, over HTTP
    try:
        check_port(config.host, config.port)
    except PortInUse:
        config = config.model_copy(update={"port": 0})
    return start_endpoint(config, space, settings.name)


def _ask(settings: Config, outcome: Outcome, url: str) -> dict[str, object]:
    """One real question over HTTP to the champion."""
    from server.serving.running import call, wait_for

    wait_for(url, outcome.deployment.version, seconds=60)
    row = settings.data.example()
    return {"row": row, **call(f"{url}/predict", {"rows": [row]})}


def _print(report: Report, answer: dict[str, object] | None) -> None:
    from rich.console import Console

    from pipeline.reporting.report import print_places, print_report

    console = Console(highlight=False, soft_wrap=True)
    print_report(report, console)
    if answer:
        console.print(f"  asked      {json.dumps(answer['row'])}")
        console.print(f"  answered   v{answer['version']}: {json.dumps(answer['predictions'])}")
    print_places(report, console)


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(simulate)
    app.command()(tune)
    app.command()(statistics)
