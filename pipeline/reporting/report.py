"""What a run made and what it cost, in the order a person asks for it; the same whether it ran here or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.language.protocol import ClientName
from pipeline.stages.values import PrivacyStatement

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.lifecycle import Outcome
    from pipeline.store.workspace import Workspace

NAMES = {"roc_auc": "ROC-AUC", "r2": "R2", "accuracy": "accuracy"}
"""How a headline is written."""


class ClientEpsilon(Frozen):
    """What one client was charged; null: infinite, or unknown."""

    training: float | None
    evaluation: float | None
    lifetime: float | None


class Report(Frozen):
    """Of one run."""

    run: str
    model: str
    version: int
    champion: int
    promoted: bool
    challenger: int | None = Field(None, description="The version that has to earn its place.")
    reasons: tuple[str, ...] = Field(description="Why the version is not champion.")
    rival: tuple[int, float] | None = Field(description="The champion it was compared with, and its headline.")
    metrics: dict[str, float] = Field(description="The first is the headline.")
    errors: dict[str, float] = Field(description="One standard error of each.")
    clients: int = Field(description="Whose held-out rows it was evaluated on.")
    sums: int = Field(description="How many the coordinator saw.")
    privacy: PrivacyStatement
    audit: str | None = Field(None, description="What an attack on the promise has shown; null: none was asked for.")
    tuning: str | None = Field(None, description="What the search among settings has found; null: none was asked for.")
    epsilon: dict[ClientName, ClientEpsilon]
    workspace: str
    files: str
    page: str = Field("", description="The report as a page.")

    def _repr_html_(self) -> str | None:
        """In a notebook: the page itself, apart from what stands around it."""
        if not self.page.endswith(".html") or not Path(self.page).is_file():
            return None
        from markupsafe import Markup

        page = Path(self.page).read_text(encoding="utf-8")
        return str(Markup('<iframe style="width:100%;height:48rem;border:0" srcdoc="{}"></iframe>').format(page))

    @classmethod
    def of(cls, outcome: Outcome, workspace: Workspace, page: str = "") -> Report:
        """page: where that of the run was left."""
        evaluation, verdict = outcome.evaluation, outcome.verdict
        rival = None
        if verdict.champion and verdict.champion != outcome.version.version:
            rival = (verdict.champion, verdict.champion_score or 0.0)
        return cls(
            run=outcome.run,
            model=outcome.version.name,
            version=outcome.version.version,
            champion=outcome.deployment.version,
            promoted=outcome.deployment.promoted,
            challenger=outcome.deployment.challenger,
            reasons=verdict.reasons,
            rival=rival,
            metrics=outcome.version.metrics,
            errors={name: evaluation.errors[name] for name in outcome.version.metrics},
            clients=len(evaluation.clients),
            sums=sum(line.purpose in ("statistics", "evaluation") for line in outcome.version.privacy.lines)
            + sum(1 for clients in outcome.model.rounds.values() if clients),
            privacy=outcome.version.privacy,
            tuning=outcome.tuning.text if outcome.tuning else None,
            audit=outcome.audit.text if outcome.audit.unit else None,
            epsilon={
                client: ClientEpsilon(
                    training=outcome.model.spent.get(client),
                    evaluation=evaluation.spent.get(client),
                    lifetime=evaluation.lifetime.get(client),
                )
                for client in sorted({*outcome.model.spent, *evaluation.spent})
            },
            workspace=str(workspace.root),
            files=outcome.version.folder,
            page=page,
        )


def print_report(report: Report, console: Console) -> None:
    """On a terminal or off it."""
    state = "is champion" if report.promoted else f"is NOT champion ({'; '.join(report.reasons)})"
    if report.challenger == report.version:
        state = "is challenger, and has to earn its place: sottovoce watch"
    elif not report.promoted and not report.reasons:
        state = "was challenger before, and was dropped"
    rival = f" (v{report.rival[0]}: {report.rival[1]:.3f})" if report.rival else ""
    headline, *others = report.metrics
    console.print()
    console.print(
        f"  [bold]Model {report.model} v{report.version}[/] {state}      "
        f"{NAMES.get(headline, headline)} {_figure(report.metrics[headline])} +- {report.errors[headline]:.2g}{rival}"
    )
    told = "  ".join(f"{metric} {_figure(report.metrics[metric])}" for metric in others)
    console.print(f"  {told}   on the held-out rows of {report.clients} clients")
    console.print(f"  Privacy: {report.privacy.text}")
    if report.tuning:
        console.print(f"  Tuning: {report.tuning}")
    if report.audit:
        console.print(f"  Audit: {report.audit}")
    for client, spent in report.epsilon.items():
        if spent.evaluation is None and spent.lifetime is None and spent.training is not None:
            console.print(f"    {client:24} training {_epsilon(spent.training)}, took no part in the evaluation")
            continue
        console.print(
            f"    {client:24} training {_epsilon(spent.training)}, held-out rows "
            f"{_epsilon(spent.evaluation)}, lifetime {_epsilon(spent.lifetime)}"
        )
    if report.privacy.aggregation == "bfv":
        console.print(
            f"  The coordinator saw outcomes of noisy checks, {report.sums} sums it could not read, noisy counts and "
            "the model."
        )
    else:
        console.print("  [bold red]NOT ENCRYPTED:[/] the coordinator could read every client's update in every round.")
    console.print()


def print_places(report: Report, console: Console) -> None:
    """Where it is, and what to do next."""
    flag = "" if report.workspace.endswith("/sottovoce-workspace") else f" --workspace {report.workspace}"
    console.print(f"  report     {report.page}")
    console.print(f"  files      {report.files}")
    console.print(f"  serve it   sottovoce serve{flag}")
    console.print(f"  lineage    sottovoce lineage {report.model}{flag}     runs: sottovoce runs list{flag}")
    console.print("  again      the same command: what did not change is not run, and nothing is charged")


def _figure(value: float) -> str:
    """Three digits after the point of what is about one, else four in all."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _epsilon(value: float | None) -> str:
    return "epsilon infinite" if value is None else f"epsilon {value:.2f}"
