"""blessing: may the model become champion? Against thresholds, against the best so far, and against its promise.

What noise hides is not decided by it: a headline with too large an error is unknown, and nobody's champion; and a
version is worse than another only by more than the error of their difference. It is held against the champion and
against the best that was ever blessed, so that a little is not lost with every version for ever.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from pipeline.engine.graph import stage
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.registration import RegistrationConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.tasks.task import Task
from pipeline.stages.values import AuditReport, EvaluationReport, Verdict
from pipeline.store.registry import Registered, Registry
from privacy.errors import VersionRefused

PROTECTIVE = ("none", "record", "subject", "client")
"""Units, each of which protects more than the one before."""


@stage(produces="verdict", place="here", volatile=True, resources=None)
def blessing(
    registry: Registry,
    evaluation_report: EvaluationReport,
    audit_report: AuditReport,
    data: DataContract,
    privacy: Privacy,
    name: str,
    registration: RegistrationConfig,
) -> Verdict:
    """The verdict, with every reason against the model."""
    task, champion = data.task, registry.champion(name)
    reasons = list(_below(evaluation_report, task, registration))
    rivals = {rival.version: rival for rival in (champion, _best(registry.versions(name), task)) if rival}
    if registration.promotion == "blessed":
        for rival in rivals.values():
            reasons += _worse(evaluation_report, rival, task, registration)
    if champion and not registration.weaker_privacy:
        reasons += _weaker(privacy, champion)
    if audit_report.refuted:
        reasons.append(audit_report.text)
    return Verdict(
        blessed=not reasons,
        reasons=tuple(reasons),
        champion=champion.version if champion else None,
        champion_score=champion.metrics.get(task.headline) if champion else None,
    )


def _below(report: EvaluationReport, task: Task, registration: RegistrationConfig) -> Iterator[str]:
    """Thresholds that are missed, and a headline that nobody knows."""
    for metric, least in registration.thresholds(task).items():
        if task.worse(metric, report.metrics[metric], least):
            yield f"{metric} {report.metrics[metric]:.4f} is worse than registration asks for: {least:g}"
    error = report.errors[task.headline]
    if error > registration.max_error:
        yield (
            f"{task.headline} is unknown: its error {error:.2g} is above {registration.max_error:g} "
            "(registration.max_error); more held-out rows, fewer bins or a larger epsilon make it smaller"
        )


def _best(versions: list[Registered], task: Task) -> Registered | None:
    """The one of those that were blessed that is best for certain."""
    sign = 1 if task.measures[task.headline] else -1

    def least(version: Registered) -> float:
        return sign * version.metrics[task.headline] - version.errors[task.headline]

    usable = [one for one in versions if not one.retired]
    known = [one for one in usable if one.blessed and task.headline in one.metrics and task.headline in one.errors]
    return max(known, key=least, default=None)


def _worse(report: EvaluationReport, rival: Registered, task: Task, registration: RegistrationConfig) -> Iterator[str]:
    headline = task.headline
    if (score := rival.metrics.get(headline)) is None:
        return
    error = math.hypot(report.errors[headline], rival.errors.get(headline, 0.0))
    lost = score - report.metrics[headline] if task.measures[headline] else report.metrics[headline] - score
    if lost > registration.max_regression + error:
        yield (
            f"{headline} {report.metrics[headline]:.4f} is worse than v{rival.version}'s {score:.4f} by more than "
            f"{registration.max_regression:g} and the error of the difference, {error:.2g}"
        )


def _weaker(privacy: Privacy, champion: Registered) -> Iterator[str]:
    """A champion is replaced by what promises less only when a person says so."""
    try:
        promised = json.loads(champion.read("privacy.json"))
    except VersionRefused:  # another tool's, or altered: nothing is promised that could be broken
        return
    unit, epsilon = str(promised.get("unit", "none")), promised.get("epsilon")
    own = "none" if privacy == "none" else privacy.unit
    weaker = PROTECTIVE.index(own) < PROTECTIVE.index(unit)
    if own == unit and privacy != "none" and epsilon is not None:
        weaker = privacy.epsilon > epsilon * (1 + 1e-9) or privacy.delta > promised["delta"] * (1 + 1e-9)
    if weaker:
        yield (
            f"it promises less than the champion v{champion.version} ({promised.get('text', unit)}); "
            "registration.weaker_privacy lets it"
        )
