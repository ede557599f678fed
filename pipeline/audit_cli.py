"""sottovoce audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import AsJson, Workspaces


def audit(
    config: Annotated[Path | None, typer.Argument(help="Configuration whose promise is attacked.")] = None,
    of: Annotated[
        str | None, typer.Option("--of", metavar="RUN", help="Of an earlier run, instead: by its id or its beginning.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting.")] = None,
    workspace: Workspaces = None,
    as_json: AsJson = False,
) -> None:
    """Try to refute what a job promises, on a replica with made-up records: no client is asked, nothing is charged.

    The exit code is 4 when the promise is refuted. What is not refuted is not proved.
    """
    from pipeline.host.environment import quiet_environment
    from pipeline.language.configfile import load_config
    from pipeline.store.workspace import DEFAULT, Workspace
    from privacy.errors import ClaimRefuted, ConfigError

    if (config is None) == (of is None):
        raise ConfigError("say either CONFIG or --of RUN", remedy="Runs: sottovoce runs list")
    settings = (
        load_config(config, overrides or [])
        if config
        else Workspace.existing(workspace or DEFAULT).recorded_config(of or "")
    )
    quiet_environment()
    from pipeline.language.lines import Lines
    from pipeline.reporting.attacks import print_audit
    from pipeline.stages.audit import audited

    report = audited(
        settings.data,
        settings.model,
        settings.privacy,
        settings.encryption,
        settings.federation.min_cohort,
        settings.training,
        Lines.of(settings),
        settings.audit,
    )
    if as_json:
        typer.echo(json.dumps({"verdict": report.verdict, "shown": report.shown, **report.model_dump(mode="json")}))
    else:
        print_audit(report)
    if report.refuted:
        raise ClaimRefuted(report.text, remedy="Find what is broken in the training path, and report it.")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(audit)
