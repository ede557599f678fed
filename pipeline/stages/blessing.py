"""blessing: is the model good enough to become champion? Against thresholds, and against the champion of today."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.language.settings.registration import RegistrationConfig
from pipeline.learning.contract import DataContract
from pipeline.stages.values import EvaluationReport, Verdict
from pipeline.store.registry import Registry


@stage(produces="verdict", place="here", volatile=True, resources=None)
def blessing(
    registry: Registry,
    evaluation_report: EvaluationReport,
    data: DataContract,
    name: str,
    registration: RegistrationConfig,
) -> Verdict:
    """The verdict, with every reason against the model. A champion in the registry is what it is compared with."""
    task, metrics, reasons = data.task, evaluation_report.metrics, []
    for metric, least in registration.thresholds(task).items():
        if task.worse(metric, metrics[metric], least):
            reasons.append(f"{metric} {metrics[metric]:.4f} is worse than registration asks for: {least:g}")
    headline, champion = task.headline, registry.champion(name)
    rival = champion.metrics.get(headline) if champion else None
    if rival is not None:
        margin = registration.max_regression if task.measures[headline] else -registration.max_regression
        if task.worse(headline, metrics[headline], rival - margin):
            reasons.append(
                f"{headline} {metrics[headline]:.4f} is worse than the champion's {rival:.4f} by more than "
                f"{registration.max_regression:g}"
            )
    return Verdict(
        blessed=not reasons,
        reasons=tuple(reasons),
        champion=champion.version if champion else None,
        champion_score=rival,
    )
