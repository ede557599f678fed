"""The front door: the command line, assembled from each room's own commands; and what Python imports.

    import sottovoce
    run = sottovoce.simulate("crash-fatality.yaml", privacy={"epsilon": 3})

Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 data, 4 privacy or budget, 5 federation, 6 engine,
7 storage, 8 workspace busy, 9 serving, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import click
import typer

import clients.budget_cli
import clients.node.cli
import pipeline.audit_cli
import pipeline.cli
import pipeline.export_cli
import pipeline.report_cli
import server.coordinator.cli
import server.evidence.cli
import server.models_cli
import server.serving.cli
import server.watch.cli
import simulations.cli
import simulations.project
from privacy.errors import SottovoceError, named

if TYPE_CHECKING:
    from simulations.notebook import load, models, simulate

INTERRUPTED = 130

__all__ = ["load", "main", "models", "simulate"]


def __getattr__(name: str) -> object:
    """What a notebook uses, imported when it is first asked for: the command line does not pay for it."""
    if name in ("load", "models", "simulate"):
        from simulations import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")


app = typer.Typer(
    name="sottovoce",
    help="Privacy-preserving federated learning: from data that may not be pooled to a model that answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.language.protocol import own_version

        typer.echo(f"sottovoce {own_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and end.")
    ] = False,
) -> None:
    """Quiet the libraries below: what matters is said by the commands."""
    logging.getLogger().setLevel(logging.ERROR)


for _room in (
    simulations.cli,
    simulations.project,
    server.coordinator.cli,
    server.serving.cli,
    server.models_cli,
    server.evidence.cli,
    server.watch.cli,
    clients.node.cli,
    clients.budget_cli,
    pipeline.cli,
    pipeline.audit_cli,
    pipeline.export_cli,
    pipeline.report_cli,
):
    _room.register(app)


def main() -> int:
    """Run the command line; every named error is told without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # what schedulers send; commands that serve have handlers of their own
    try:
        code = app(standalone_mode=False)  # an Exit comes back as its code; so does what interrupts a command
    except (KeyboardInterrupt, click.exceptions.Abort):
        code = INTERRUPTED
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # the last resort: name it if it has a name, else say that it is a bug
        return _tell(error)
    if code == INTERRUPTED:
        print("interrupted: what was finished is kept, the same command goes on from there", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _tell(error: Exception) -> int:
    found = named(error)
    if "--json" in sys.argv:
        shown = found or SottovoceError(f"{type(error).__name__}: {error}")
        print(json.dumps({"event": "Error", "code": shown.code, "cause": shown.cause, "remedy": shown.remedy}))
    elif found:
        print(f"error[{found.code}]  {found.cause}", file=sys.stderr)
        if found.remedy:
            print(f"  {found.remedy}", file=sys.stderr)
    if found is None or os.environ.get("SOTTOVOCE_TRACEBACK"):
        traceback.print_exception(error)
        print("This is a bug in Sottovoce: please report it with the lines above.", file=sys.stderr)
    return found.exit_code if found else 1


def run() -> None:
    """The `sottovoce` command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
