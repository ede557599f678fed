"""sottovoce simulate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.lifecycle import Outcome
    from pipeline.workspace import Workspace

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "crash-fatality.yaml"


def simulate(
    config: Annotated[Path, typer.Argument(help="Configuration; default: seven crash registries.")] = DEFAULT_CONFIG,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder of artifacts, versions and simulated clients.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an earlier run, in its configuration.")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Serve the champion for a moment and ask it one question.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run a whole federation on this machine: from data to a registered, private model.

    What did not change since an earlier run in the workspace is not run again and not charged again.
    """
    from pipeline.configfile import load_config
    from pipeline.workspace import DEFAULT, Workspace
    from privacy.errors import ConfigError

    if resume:
        if overrides or config != DEFAULT_CONFIG:
            raise ConfigError(
                "--resume takes the configuration of the run, and no other",
                remedy="Leave out CONFIG and --set; or leave out --resume: what did not change is not run again.",
            )
        settings = Workspace.existing(workspace or DEFAULT).recorded_config(resume)
    else:
        settings = load_config(config, overrides or [])
    space = Workspace(workspace or DEFAULT, settings.storage)
    with space.locked():
        _run(settings, space, ask=ask, as_json=as_json)


def _run(settings: Config, space: Workspace, *, ask: bool, as_json: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pipeline.console import showing
    from pipeline.engine import ray_engine
    from pipeline.environment import quiet_environment
    from simulations.homes import prepare_homes

    prepare_homes(settings, space.clients)  # a wrong data set is known before Ray takes its seconds to start
    quiet_environment()
    from simulations.simulate import simulate as run  # before Ray starts: its threads import too, and flwr minds

    with ray_engine(), ThreadPoolExecutor(max_workers=1) as aside:
        endpoint = aside.submit(_open_endpoint, settings, space) if ask else None
        with showing(as_json=as_json) as progress:
            outcome = run(settings, space, progress)
        answer = _ask(settings, outcome, endpoint.result()) if endpoint else None
        if as_json:
            print(json.dumps({"event": "Report", **_report(outcome, space), "answer": answer}), flush=True)
        else:
            _print_report(settings, outcome, space, answer)
        if endpoint:
            _close_endpoint()


def _open_endpoint(settings: Config, space: Workspace) -> str:
    """Serve starts beside the run and waits for the champion. A taken port is replaced by a free one."""
    from pipeline.registry import Registry
    from privacy.errors import PortInUse
    from server.serving import check_port, start_endpoint

    config = settings.serving
    try:
        check_port(config.host, config.port)
    except PortInUse:
        config = config.model_copy(update={"port": 0})
    return start_endpoint(config, Registry(space.registry_url, space.models), settings.name)


def _close_endpoint() -> None:
    from server.serving import stop_endpoint

    stop_endpoint()


def _ask(settings: Config, outcome: Outcome, url: str) -> dict[str, object]:
    """One real question over HTTP to the champion."""
    from server.serving import call, wait_for

    wait_for(url, outcome.deployment.version, seconds=60)
    row = settings.data.example()
    return {"row": row, **call(f"{url}/predict", {"rows": [row]})}


def _report(outcome: Outcome, space: Workspace) -> dict[str, object]:
    evaluation = outcome.evaluation
    return {
        "run": outcome.run,
        "model": outcome.version.name,
        "version": outcome.version.version,
        "champion": outcome.deployment.version,
        "promoted": outcome.deployment.promoted,
        "reasons": list(outcome.verdict.reasons),
        "metrics": evaluation.metrics,
        "roc_auc_error": evaluation.roc_auc_error,
        "privacy": outcome.version.privacy.model_dump(),
        "epsilon": {
            client: {
                "training": outcome.model.spent.get(client),
                "evaluation": evaluation.spent.get(client),
                "lifetime": evaluation.lifetime.get(client),
            }
            for client in sorted({*outcome.model.spent, *evaluation.spent})
        },
        "workspace": str(space.root),
        "files": outcome.version.folder,
    }


def _print_report(settings: Config, outcome: Outcome, space: Workspace, answer: dict[str, object] | None) -> None:
    from rich.console import Console

    wide = Console(highlight=False, soft_wrap=True)
    evaluation, version = outcome.evaluation, outcome.version
    state = "is champion" if outcome.deployment.promoted else f"is NOT champion ({'; '.join(outcome.verdict.reasons)})"
    rival = (
        f" (v{outcome.verdict.champion}: {outcome.verdict.champion_roc_auc:.3f})" if outcome.verdict.champion else ""
    )
    wide.print()
    wide.print(
        f"  [bold]Model {version.name} v{version.version}[/] {state}      "
        f"ROC-AUC {evaluation.metrics['roc_auc']:.3f} +- {evaluation.roc_auc_error:.3f}{rival}"
    )
    told = "  ".join(f"{key} {evaluation.metrics[key]:.3f}" for key in ("pr_auc", "accuracy", "precision", "recall"))
    wide.print(f"  {told}   on the held-out rows of {len(evaluation.clients)} clients")
    wide.print(f"  Privacy: {version.privacy.text}")
    for client in sorted(evaluation.lifetime):
        wide.print(
            f"    {client:24} training {_epsilon(outcome.model.spent.get(client))}, held-out rows "
            f"{_epsilon(evaluation.spent.get(client))}, lifetime {_epsilon(evaluation.lifetime[client])}"
        )
    seen = sum(1 for clients in outcome.model.rounds.values() if clients)
    if settings.encryption.scheme == "bfv":
        wide.print(
            f"  The coordinator saw outcomes of checks, {seen + 1} sums it could not read, the counts and the model."
        )
    else:
        wide.print("  [bold red]NOT ENCRYPTED:[/] the coordinator could read every client's update in every round.")
    wide.print()
    if answer:
        wide.print(f"  asked      {json.dumps(answer['row'])}")
        wide.print(f"  answered   v{answer['version']}: {json.dumps(answer['predictions'])}")
    flag = "" if space.root.name == "sottovoce-workspace" else f" --workspace {space.root}"
    wide.print(f"  files      {version.folder}")
    wide.print(f"  serve it   sottovoce serve{flag}")
    wide.print(f"  lineage    sottovoce lineage {version.name}{flag}     runs: sottovoce runs list{flag}")
    wide.print("  again      the same command: what did not change is not run, and nothing is charged")


def _epsilon(value: object) -> str:
    return f"epsilon {value:.2f}" if isinstance(value, float) else "epsilon infinite"


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(simulate)
