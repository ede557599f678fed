"""The lifecycle: the DAG of all stages, and one run of it, or of a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from pipeline.engine.execution import Context
from pipeline.engine.graph import Dag
from pipeline.engine.progress import Notice, Progress, RunPlanned, in_turn
from pipeline.engine.scheduler import run as run_graph
from pipeline.federation.affording import ask_budget
from pipeline.federation.clients import Admitted, Clients
from pipeline.kinds import INSTALLED
from pipeline.language.changing import changed, check_space
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.stages.audit import audit
from pipeline.stages.blessing import blessing
from pipeline.stages.deployment import deployment
from pipeline.stages.design import design
from pipeline.stages.enrolment import enrolment
from pipeline.stages.evaluation import evaluation
from pipeline.stages.ingestion import ingestion
from pipeline.stages.preprocessing import preprocessing
from pipeline.stages.registration import registration
from pipeline.stages.statistics import statistics
from pipeline.stages.training import training
from pipeline.stages.tuning import tuning
from pipeline.stages.validation import validation
from pipeline.stages.values import (
    AuditReport,
    Deployment,
    EvaluationReport,
    ModelVersion,
    TrainedModel,
    TuningReport,
    ValidationReport,
    Verdict,
)
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.heads import Heads
from pipeline.store.journal import Journal
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace

if TYPE_CHECKING:
    from flwr.serverapp import Grid

FREE = {
    "validation": "- nothing is asked",
    "statistics": "- nothing is asked",
    "preprocessing": "- bounds are declared",
    "audit": "- nobody's data is read",
    "tuning": "- nobody's data is read",
}
"""What is said of a stage that the budget has no line of."""

SEARCH, DEPENDS = "tuning", {"tuning", "training", "audit"}
"""The search among settings, and stages that are not run before it: they, or what they are made for, depend on them."""

BUDGET = "budget"
"""Before any stage: every client is asked whether it could pay for a whole run; nothing is run, and nothing charged."""

Value = TypeVar("Value", bound=BaseModel)


@dataclass(frozen=True)
class Outcome:
    """What a run made."""

    run: str
    validation: ValidationReport
    model: TrainedModel
    evaluation: EvaluationReport
    audit: AuditReport
    tuning: TuningReport | None
    verdict: Verdict
    version: ModelVersion
    deployment: Deployment


def lifecycle_dag(*, searching: bool = False) -> Dag:
    """The linted graph of the lifecycle. searching: with the search among settings, which comes before what depends on
    them: those after it are made anew of what it has found."""
    return Dag(
        [
            design,
            enrolment,
            ingestion,
            validation,
            statistics,
            preprocessing,
            training,
            evaluation,
            audit,
            blessing,
            registration,
            deployment,
            *([tuning] if searching else []),
        ],
        sections=[*Config.model_fields, "lines"],
        tools={
            "clients": Clients,
            "journal": Journal,
            "store": ArtifactStore,
            "registry": Registry,
            "studies": str,
            "progress": object,
        },
    )


@dataclass(frozen=True)
class Part:
    """A run that several processes may work for, one after the other, and how far this one goes.

    run: its id; None: a new one. until: the last stage; None: all; BUDGET: ask who could pay for it, and end.
    """

    run: str | None = None
    until: str | None = None

    def check(self, config: Config, workspace: Workspace) -> None:
        """Raise ConfigError for what would be refused later: an unknown stage, a run of another configuration."""
        if self.until == BUDGET:
            return
        searching = bool(config.tuning.space)
        lifecycle_dag(searching=searching).until(self.until)
        if searching:
            check_space(config)
        if self.run:
            metadata = workspace.metadata()
            try:
                metadata.accepts(self.run, config.model_dump(mode="json"))
            finally:
                metadata.close()


WHOLE = Part()


def run_lifecycle(
    config: Config,
    grid: Grid,
    workspace: Workspace,
    progress: Progress,
    admitted: Mapping[str, Admitted] | None = None,
    part: Part = WHOLE,
) -> Outcome | None:
    """Run the lifecycle over `grid`, reusing what did not change; None when only a part of it was asked for. The
    workspace must be locked by the caller.

    admitted: who may take part; None: whoever the grid lets in. Raises whatever SottovoceError the failing stage
    raised, ConfigError for a run of another configuration; finished stages are kept.
    """
    progress = in_turn(progress)
    if part.until == BUDGET:
        heads = workspace.heads()
        try:
            ask_budget(_clients(config, grid, progress, heads, admitted), config)
        finally:
            heads.close()
        return None
    searching = bool(config.tuning.space)
    every = lifecycle_dag(searching=searching)
    dag, before = every.until(part.until), every.until(SEARCH) if searching else None
    if before and not DEPENDS & dag.stages.keys():
        before = None  # nothing that is asked for depends on the settings
    metadata, heads, store = workspace.metadata(), workspace.heads(), workspace.artifacts()
    run = metadata.begin_run(config.name, config.model_dump(mode="json"), part.run)
    clients = _clients(config, grid, progress, heads, admitted)
    tools = {
        "clients": clients,
        "registry": Registry(workspace.registry_url, workspace.models),
        "studies": workspace.studies,
        "progress": progress,
    }
    prices = FREE | Lines.of(config).prices(config.privacy)

    def context(config: Config) -> Context:
        sections = {**{name: getattr(config, name) for name in Config.model_fields}, "lines": Lines.of(config)}
        return Context(run, sections, tools, store, metadata, progress, prices)

    wanted = dag.stages.keys() | (before.stages.keys() if before else set())
    planned = [(name, every.stages[name].place, prices.get(name, "-")) for name in every.order if name in wanted]
    progress(RunPlanned(run, config.name, tuple(planned)))
    search: TuningReport | None = None
    try:
        if before:
            digest = run_graph(before, context(config))["tuning_report"]
            search = TuningReport.model_validate_json(store.get(digest), context=INSTALLED)
            progress(Notice(f"tuning: {search.text}"))
            config = changed(config, search.changes, "tuning")
        dag = lifecycle_dag().until(part.until) if part.until != SEARCH else dag
        made = run_graph(dag, context(config)) if part.until != SEARCH else {}
    except BaseException as error:
        metadata.end_run(run, error=str(error) or type(error).__name__)
        raise
    else:
        whole = dag.stages.keys() == lifecycle_dag().stages.keys()
        metadata.end_run(run, waiting=not whole)
    finally:
        heads.close()
        metadata.close()
    if not whole:
        progress(
            Notice(f"run {run} has {part.until} and what that needs; it goes on with the next command of its name")
        )
        return None

    def value(name: str, kind: type[Value]) -> Value:
        return kind.model_validate_json(store.get(made[name]), context=INSTALLED)

    return Outcome(
        run=run,
        validation=value("validation_report", ValidationReport),
        model=value("trained_model", TrainedModel),
        evaluation=value("evaluation_report", EvaluationReport),
        audit=value("audit_report", AuditReport),
        tuning=search,
        verdict=value("verdict", Verdict),
        version=value("model_version", ModelVersion),
        deployment=value("deployment", Deployment),
    )


def _clients(
    config: Config, grid: Grid, progress: Progress, heads: Heads, admitted: Mapping[str, Admitted] | None
) -> Clients:
    return Clients(
        grid,
        min_cohort=config.federation.min_cohort,
        timeout=config.federation.timeout,
        progress=progress,
        heads=heads,
        admitted=admitted,
    )
