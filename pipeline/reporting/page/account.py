"""All that the stores know of one run: whatever is told of it can be told again later, from any process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.kinds import INSTALLED
from pipeline.stages.values import (
    AuditReport,
    EvaluationReport,
    ModelVersion,
    StatisticsReport,
    TrainedModel,
    TuningReport,
    ValidationReport,
    Verdict,
)
from pipeline.store.metadata import Execution, Link, Run
from pipeline.store.registry import Registered, Registry
from pipeline.store.workspace import Workspace

Value = TypeVar("Value", bound=BaseModel)


@dataclass(frozen=True)
class Step:
    """One stage of a run, reused or made."""

    execution: Execution
    reused: bool
    links: Sequence[Link]

    @property
    def seconds(self) -> float | None:
        """What it took, if it was made in this run and has ended."""
        if self.reused or self.execution.ended is None:
            return None
        return self.execution.ended - self.execution.started


@dataclass(frozen=True)
class Account:
    """A part that a run has not reached is None. versions: of the same name, this one included."""

    run: Run
    config: Mapping[str, Any]
    steps: Sequence[Step]
    validation: ValidationReport | None
    statistics: StatisticsReport | None
    trained: TrainedModel | None
    tuning: TuningReport | None
    evaluation: EvaluationReport | None
    audit: AuditReport | None
    verdict: Verdict | None
    version: ModelVersion | None
    versions: Sequence[Registered]

    @classmethod
    def of(cls, workspace: Workspace, prefix: str) -> Account:
        """Of the run whose id begins so. Raises NotFound, ArtifactCorrupt."""
        metadata, store = workspace.metadata(), workspace.artifacts()
        try:
            run = metadata.run(prefix)
            steps = [
                Step(execution, reused, metadata.links(execution=execution.id))
                for execution, reused in metadata.executions_of(run.id)
            ]
            config = metadata.config_of(run.id)
        finally:
            metadata.close()
        made = {link.name: link.artifact for step in steps for link in step.links if link.direction == "OUTPUT"}

        def value(name: str, kind: type[Value]) -> Value | None:
            if name not in made or not store.has(made[name]):
                return None
            return kind.model_validate_json(store.get(made[name]), context=INSTALLED)

        version = value("model_version", ModelVersion)
        registry = Registry(workspace.registry_url, workspace.models)
        return cls(
            run=run,
            config=config,
            steps=steps,
            validation=value("validation_report", ValidationReport),
            statistics=value("statistics_report", StatisticsReport),
            trained=value("trained_model", TrainedModel),
            tuning=value("tuning_report", TuningReport),
            evaluation=value("evaluation_report", EvaluationReport),
            audit=value("audit_report", AuditReport),
            verdict=value("verdict", Verdict),
            version=version,
            versions=registry.versions(version.name) if version else (),
        )

    @property
    def clients(self) -> list[str]:
        """Everybody who took any part, by name."""
        told: set[str] = set()
        for found in (self.validation and self.validation.outcomes, self.trained and self.trained.spent):
            told |= set(found or ())
        for names in self.trained.rounds.values() if self.trained else ():
            told |= set(names)
        return sorted(told)
