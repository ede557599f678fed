"""The lifecycle: the DAG of all stages, and one run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pipeline.engine.graph import Dag, Inputs
from pipeline.engine.progress import Progress, RunPlanned
from pipeline.federation.clients import Admitted, Clients
from pipeline.language.config import Config
from pipeline.stages.blessing import blessing
from pipeline.stages.deployment import deployment
from pipeline.stages.enrolment import enrolment
from pipeline.stages.evaluation import evaluation
from pipeline.stages.ingestion import ingestion
from pipeline.stages.preprocessing import preprocessing
from pipeline.stages.registration import registration
from pipeline.stages.training import training
from pipeline.stages.validation import validation
from pipeline.stages.values import Deployment, EvaluationReport, ModelVersion, TrainedModel, ValidationReport, Verdict
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace

if TYPE_CHECKING:
    from flwr.serverapp import Grid


@dataclass(frozen=True)
class Outcome:
    """What a run made."""

    run: str
    validation: ValidationReport
    model: TrainedModel
    evaluation: EvaluationReport
    verdict: Verdict
    version: ModelVersion
    deployment: Deployment


def lifecycle_dag() -> Dag:
    """The linted graph of the lifecycle."""
    return Dag(
        [enrolment, ingestion, validation, preprocessing, training, evaluation, blessing, registration, deployment],
        sections=Config.model_fields,
        resources=("clients", "journal", "store", "registry"),
    )


def run_lifecycle(
    config: Config,
    grid: Grid,
    workspace: Workspace,
    progress: Progress,
    admitted: Mapping[str, Admitted] | None = None,
    run: str | None = None,
) -> Outcome:
    """Run the whole lifecycle over `grid`, reusing what did not change. The workspace must be locked by the caller.

    admitted: who may take part; None: whoever the grid lets in. run: its id; None: a new one. Raises whatever
    SottovoceError the failing stage raised; finished stages are kept.
    """
    dag = lifecycle_dag()
    metadata = workspace.metadata()
    run = metadata.begin_run(config.name, config.model_dump(mode="json"), run)
    clients = Clients(
        grid,
        min_cohort=config.federation.min_cohort,
        timeout=config.federation.timeout,
        progress=progress,
        heads=metadata,
        admitted=admitted,
    )
    inputs = Inputs(
        sections={name: getattr(config, name) for name in Config.model_fields},
        resources={"clients": clients, "registry": Registry(workspace.registry_url, workspace.models)},
    )
    progress(RunPlanned(run, config.name, tuple(_plan(config, dag))))
    try:
        outputs = dag.run(inputs, run=run, store=workspace.artifacts(), metadata=metadata, progress=progress)
    except BaseException as error:
        metadata.end_run(run, error=str(error) or type(error).__name__)
        raise
    else:
        metadata.end_run(run)
    finally:
        metadata.close()
    return Outcome(
        run=run,
        validation=cast(ValidationReport, outputs["validation_report"]),
        model=cast(TrainedModel, outputs["trained_model"]),
        evaluation=cast(EvaluationReport, outputs["evaluation_report"]),
        verdict=cast(Verdict, outputs["verdict"]),
        version=cast(ModelVersion, outputs["model_version"]),
        deployment=cast(Deployment, outputs["deployment"]),
    )


def _plan(config: Config, dag: Dag) -> list[tuple[str, str, str]]:
    """Each stage with where it runs and what it will charge at most."""
    share, privacy = config.validation.epsilon_share, config.privacy
    if privacy == "none":
        charges = dict.fromkeys(("validation", "training", "evaluation"), "NOT PRIVATE")
    elif privacy.unit == "client":
        budget = f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}, every client"
        charges = {
            "validation": "- nothing is asked",
            "training": f"{budget}, with evaluation",
            "evaluation": "one round more, in training's epsilon",
        }
    else:
        budget = f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}"
        within = " with validation" if share else ""
        charges = {
            "validation": f"epsilon {share * privacy.epsilon:g} alone, within both of those below",
            "training": f"{budget}{within}, training rows",
            "evaluation": f"{budget}{within}, held-out rows (disjoint)",
        }
    if not share:
        charges["validation"] = "- nothing is asked"
    free = {"preprocessing": "- bounds are declared"}
    return [(name, dag.stages[name].place, charges.get(name, free.get(name, "-"))) for name in dag.order]
