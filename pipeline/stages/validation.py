"""validation: every client checks its snapshot by noisy counts. WARN is reported, FAIL excludes."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.engine.progress import ClientWarned, told
from pipeline.federation.clients import Clients
from pipeline.federation.failures import Failure
from pipeline.language.lines import Lines
from pipeline.language.protocol import Action, ValidateReply, ValidateRequest
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.validation import ValidationConfig
from pipeline.learning.contract import DataContract
from pipeline.stages.values import Cohort, Snapshots, ValidationReport


@stage(produces="validation_report", place="clients", asks=(Action.VALIDATE,))
def validation(
    clients: Clients,
    cohort: Cohort,
    snapshots: Snapshots,
    data: DataContract,
    validation: ValidationConfig,
    privacy: Privacy,
    lines: Lines,
) -> ValidationReport:
    """Raises CohortTooSmall when too few clients pass.

    Clients charge a question about a snapshot once and answer it again from what they stored, so it may be repeated.
    """
    clients.meet(cohort.public_keys)
    asked = clients.ask(
        Action.VALIDATE,
        lambda name: ValidateRequest(
            contract=data, checks=validation, privacy=privacy, lines=lines.lines, snapshot=snapshots.digests[name]
        ),
        ValidateReply,
        clients=snapshots.digests,
    )
    clients.heads.note({answer.client: answer.reply.head for answer in asked.answers})
    outcomes = {answer.client: answer.reply.outcomes for answer in asked.answers}
    for answer in list(asked.answers):
        for outcome in answer.reply.outcomes:
            if outcome.status == "warn":
                clients.progress(ClientWarned(answer.client, told(outcome)))
        if failed := [told(outcome) for outcome in answer.reply.outcomes if outcome.status == "fail"]:
            asked.answers.remove(answer)
            clients.exclude(asked, Failure(answer.client, "validation-failed", "; ".join(failed)))
    clients.demand("validation", asked)
    return ValidationReport(outcomes=outcomes, passed={name: snapshots.digests[name] for name in asked.clients})
