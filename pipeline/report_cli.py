"""sottovoce runs show | compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import AsJson, Workspaces, runs_app

if TYPE_CHECKING:
    from pipeline.store.workspace import Workspace


def show_run(
    run: Annotated[str, typer.Argument(help="Id of the run, or its beginning.")],
    workspace: Workspaces = None,
    opened: Annotated[bool, typer.Option("--open", help="Make its report anew, and open it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """The stages of a run: what was executed, what was reused, what it took and made; or, as a page, its report."""
    if opened:
        from pipeline.reporting.page.page import write_page

        _show(write_page(_workspace(workspace), run))
        return
    metadata = _workspace(workspace).metadata()
    for execution, cached in metadata.executions_of(metadata.run(run).id):
        links = metadata.links(execution=execution.id)
        if as_json:
            typer.echo(json.dumps({**vars(execution), "cached": cached, "links": [vars(link) for link in links]}))
            continue
        took = f"{execution.ended - execution.started:6.1f} s" if execution.ended else "       -"
        state = "reused" if cached else execution.state.lower()
        typer.echo(f"{execution.stage:14} {state:9} {took}  execution {execution.id}  {execution.error or ''}".rstrip())
        for link in links:
            typer.echo(f"    {link.direction.lower():6} {link.name:18} {link.artifact[:16]}")


def compare(
    runs: Annotated[list[str], typer.Argument(help="Ids of two runs or more, or their beginnings.")],
    workspace: Workspaces = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path("compare.html"),
    opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Several runs side by side, as a page: what differs in what was asked, and in what came of it."""
    from pipeline.reporting.page.account import Account
    from pipeline.reporting.page.page import comparison
    from privacy.errors import ConfigError

    if len(runs) < 2:
        raise ConfigError("to compare takes two runs", remedy="Runs: sottovoce runs list")
    space = _workspace(workspace)
    made = comparison([Account.of(space, run) for run in runs])
    try:
        out.write_text(made, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", remedy="Choose another place: --out.") from None
    if opened:
        _show(out)
    else:
        typer.echo(f"  {out}")


def _show(page: Path) -> None:
    """In the browser, where there is one; else its place is all that can be said."""
    import webbrowser

    typer.echo(f"  {page}")
    webbrowser.open(page.absolute().as_uri())


def _workspace(folder: Path | None) -> Workspace:
    from pipeline.store.workspace import DEFAULT, Workspace

    return Workspace.existing(folder or DEFAULT)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    runs_app.command("show")(show_run)
    app.command()(compare)
