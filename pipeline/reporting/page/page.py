"""One page about one run, or about several side by side: HTML that needs no network, no script, and no other file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.host.files import write_atomically
from pipeline.language.protocol import own_version
from pipeline.learning.models.net import TOLD
from pipeline.reporting.page.account import Account
from pipeline.reporting.page.chart import Bars, Grid, Plot, Series, barred, drawn, gridded
from pipeline.reporting.page.effects import effects
from pipeline.reporting.page.figures import compared, figures
from pipeline.reporting.report import NAMES
from pipeline.store.registry import Registered
from pipeline.store.workspace import Workspace
from privacy.errors import VersionRefused

TEMPLATES = Path(__file__).with_name("templates")
HEADLINES = 12
"""Metrics that are shown at once; the others are folded away."""


def write_page(workspace: Workspace, run: str) -> Path:
    """The page of a run, where it is kept: made anew from the stores. Raises NotFound."""
    account = Account.of(workspace, run)
    path = workspace.root / "runs" / account.run.id / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(account).encode())
    return path


def leave_page(workspace: Workspace, run: str | None = None) -> str:
    """The page of a run that has just ended, or of the newest; its path. A run is not lost with its page: what goes
    wrong is said instead of the path."""
    try:
        if run is None:
            metadata = workspace.metadata()
            try:
                run = metadata.runs()[0].id
            finally:
                metadata.close()
        return str(write_page(workspace, run))
    except Exception as error:  # of any kind: the run has been told of, and its stores are whole
        return f"could not be made: {type(error).__name__}: {error}"


def page(account: Account) -> str:
    """The HTML."""
    return _rendered(
        "run.html.j2",
        account=account,
        settings=dict(_flat(account.config)),
        checks=_checks(account),
        figures=figures(account.evaluation) if account.evaluation else [],
        shapes=_shapes(account),
        plots=[plot for plot in (_participation(account), _spent(account)) if plot],
        utility=_utility(account),
        search=_search(account),
        durations=_durations(account),
    )


def comparison(accounts: Sequence[Account]) -> str:
    """Several runs side by side: what differs in what was asked, and in what came of it."""
    settings = [dict(_flat(account.config)) for account in accounts]
    every = sorted({name for one in settings for name in one})
    differing = {name: [one.get(name, "-") for one in settings] for name in every}
    evaluated = [(account.run.id, account.evaluation) for account in accounts if account.evaluation]
    metrics = dict.fromkeys(name for _, report in evaluated for name in report.metrics if "[" not in name)
    return _rendered(
        "compare.html.j2",
        accounts=accounts,
        differing={name: values for name, values in differing.items() if len(set(values)) > 1},
        metrics=list(metrics),
        figures=compared(evaluated),
    )


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    environment.filters["figure"] = lambda value: f"{value:.4f}" if abs(value) < 10 else f"{value:,.4g}"
    environment.filters["named"] = lambda name: NAMES.get(name, name.replace("_", " "))
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704  our own file
    return environment.get_template(template).render(
        style=style, program=f"Sottovoce {own_version()}", headlines=HEADLINES, **values
    )


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its path, as text."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(tree, list | tuple) and any(isinstance(value, Mapping) for value in tree):
        for number, value in enumerate(tree):
            yield from _flat(value, f"{prefix}[{number}]")
    else:
        yield prefix, ", ".join(map(str, tree)) if isinstance(tree, list | tuple) else str(tree)


def _checks(account: Account) -> list[tuple[str, str, str, str, list[str]]]:
    """(status, check, column, share, clients) of all that is not well; what clients say alike is said once."""
    told: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for client, outcomes in (account.validation.outcomes if account.validation else {}).items():
        for found in outcomes:
            if found.status != "ok":
                share = "" if found.measured is None else f"{100 * found.measured:.1f} %"
                told.setdefault((found.status, found.check, found.column or ""), []).append((client, share))
    rows = []
    for (status, check, column), who in sorted(told.items()):
        shares = sorted({share for _, share in who if share})
        span = shares[0] if len(shares) == 1 else f"{shares[0]} to {shares[-1]}" if shares else ""
        rows.append((status, check, column, span, [client for client, _ in who]))
    return rows


def _shapes(account: Account) -> list[Markup]:
    """The effects of the columns, where the version says what they are."""
    for version in account.versions:
        if account.version and version.version == account.version.version and TOLD in version.digests:
            return effects(json.loads(version.read(TOLD)))
    return []


def _participation(account: Account) -> Markup | None:
    if not account.trained:
        return None
    rounds, clients = account.trained.rounds, account.clients
    texts = [["in the sum" if name in rounds[number] else "not in it" for number in rounds] for name in clients]
    whole = sum(len(names) for names in rounds.values())
    grid = Grid(
        title="Who is in which round",
        said=f"{whole} updates of {len(clients)} clients in {len(rounds)} rounds.",
        rows=clients,
        columns=[str(number) for number in rounds],
        values=[[1.0 if name in rounds[number] else 0.0 for number in rounds] for name in clients],
        texts=texts,
        column_title="round",
        plain=True,
    )
    return gridded(grid)


def _spent(account: Account) -> Markup | None:
    """Epsilon of every client: of this training, and of all that its ledger ever saw."""
    trained, evaluation = account.trained, account.evaluation
    if not trained or any(value is None for value in trained.spent.values()):
        return None
    names, values, texts = [], [], []
    for client, training in sorted(trained.spent.items()):
        names.append(client)
        values.append(training or 0.0)
        lifetime = evaluation.lifetime.get(client) if evaluation else None
        texts.append(f"{training:.2f}" + (f", lifetime {lifetime:.2f}" if lifetime is not None else ""))
    return barred(
        Bars("Epsilon of each client's training rows", "What the training has cost each client.", names, values, texts)
    )


def _utility(account: Account) -> Markup | None:
    """The headline of every version against its epsilon, where there are at least two with a promise."""
    points = [found for version in account.versions if (found := _point(version, account))]
    if len(points) < 2 or not account.version:
        return None
    headline = next(iter(account.version.metrics))
    own = [point for point in points if point[0] == account.version.version]
    others = [point for point in points if point[0] != account.version.version]
    series = [
        Series(name, [e for _, e, _, _ in some], [y for _, _, y, _ in some], [y - 2 * s for _, _, y, s in some],
               [y + 2 * s for _, _, y, s in some], joined=False)
        for name, some in (("this version", own), ("other versions", others))
    ]  # fmt: skip
    plot = Plot(
        title=f"{NAMES.get(headline, headline)} and epsilon, by version",
        said="What each version of this model reached, against what was spent on it.",
        x_title="epsilon (logarithmic)",
        y_title=NAMES.get(headline, headline),
        series=series,
        log_x=True,
    )
    return drawn(plot)


def _point(version: Registered, account: Account) -> tuple[int, float, float, float] | None:
    headline = next(iter(account.version.metrics)) if account.version else ""
    try:
        epsilon = json.loads(version.read("privacy.json"))["epsilon"]
    except (VersionRefused, ValueError, KeyError):
        return None
    if epsilon is None or headline not in version.metrics:
        return None
    return version.version, float(epsilon), version.metrics[headline], version.errors.get(headline, 0.0)


def _search(account: Account) -> Markup | None:
    """What each trial of the search reached, and the best so far."""
    report = account.tuning
    if report is None:
        return None
    known = [(trial.number, trial.score, trial.error or 0.0) for trial in report.trials if trial.score is not None]
    if not known:
        return None
    number, score = [float(n) for n, _, _ in known], [s for _, s, _ in known]
    low, high = [s - 2 * e for _, s, e in known], [s + 2 * e for _, s, e in known]
    plot = Plot(
        title="The search among settings",
        said=f"{len(known)} of {len(report.trials)} trials came to their end; {report.text}.",
        x_title="trial; 0: the settings as they are",
        y_title=NAMES.get(report.metric, report.metric),
        series=[Series("trials", number, score, low, high, joined=False)],
        level=report.trials[report.best].score,
    )
    return drawn(plot)


def _durations(account: Account) -> Markup | None:
    steps = [step for step in account.steps if step.seconds is not None]
    if not steps:
        return None
    begun = min(step.execution.started for step in steps)
    bars = Bars(
        title="Where the time went",
        said=", ".join(f"{step.execution.stage} {step.seconds:.1f} s" for step in steps) + ".",
        names=[step.execution.stage for step in steps],
        values=[step.seconds or 0.0 for step in steps],
        texts=[f"{step.seconds:.1f} s" for step in steps],
        starts=[step.execution.started - begun for step in steps],
    )
    return barred(bars)
