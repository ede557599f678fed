"""blessing: is the model good enough to become champion? Against thresholds, and against the champion of today."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.language.config import RegistrationConfig
from pipeline.stages.values import EvaluationReport, Verdict
from pipeline.store.registry import Registry


@stage(produces="verdict", place="here", volatile=True, resources=None)
def blessing(
    registry: Registry, evaluation_report: EvaluationReport, name: str, registration: RegistrationConfig
) -> Verdict:
    """The verdict, with every reason against the model. A champion in the registry is what it is compared with."""
    auc = evaluation_report.metrics["roc_auc"]
    reasons = []
    if auc < registration.min_roc_auc:
        reasons.append(f"ROC-AUC {auc:.4f} is below registration.min_roc_auc {registration.min_roc_auc}")
    champion = registry.champion(name)
    rival = champion.metrics["roc_auc"] if champion else None
    if rival is not None and auc < rival - registration.max_regression:
        reasons.append(f"ROC-AUC {auc:.4f} is more than {registration.max_regression} below the champion's {rival:.4f}")
    return Verdict(
        blessed=not reasons,
        reasons=tuple(reasons),
        champion=champion.version if champion else None,
        champion_roc_auc=rival,
    )
