"""statistics: how each column is distributed over all clients' training rows, as one sealed sum of noisy counts."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.federation.counting import Question, count
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.protocol import Action, StatisticsRequest
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.statistics import StatisticsConfig
from pipeline.learning.contract import DataContract
from pipeline.stages.values import Cohort, StatisticsReport, ValidationReport
from pipeline.store.journal import Journal
from privacy.statement import basis_of


@stage(
    produces="statistics_report", place="clients", asks=(Action.KEYS, Action.STATISTICS, Action.REVEAL), charges=True
)
def statistics(
    clients: Clients,
    journal: Journal,
    cohort: Cohort,
    validation_report: ValidationReport,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    statistics: StatisticsConfig,
    lines: Lines,
) -> StatisticsReport:
    """Nothing where nobody asks. Raises CohortTooSmall, RevealDisagreement."""
    if not statistics.epsilon_share:
        return StatisticsReport()
    clients.meet(cohort.public_keys)
    noise = SumTerms.of(privacy, lines.lines, encryption, clients.min_cohort)
    question, snapshots = data.distribution(statistics.bins), validation_report.passed
    counted = count(
        clients,
        journal,
        {name: cohort.public_keys[name] for name in snapshots},
        noise,
        Question(
            action=Action.STATISTICS,
            purpose="statistics",
            query=question,
            basis=basis_of(question.model_dump_json().encode()),
            line="statistics",
            request=lambda name, attempt: StatisticsRequest(
                execution=journal.execution,
                contract=data,
                snapshot=snapshots[name],
                statistics=statistics,
                privacy=privacy,
                lines=lines.lines,
                shares=noise.shares,
                attempt=attempt,
                seen=clients.heads.head(name),
            ),
            blobs=lambda name: {},
            remedy="Change statistics.bins to ask, and pay for, other statistics.",
        ),
    )
    return StatisticsReport(
        clients=counted.clients,
        question=question,
        counts=tuple(counted.counts.tolist()),
        noise=counted.noise,
        spent=counted.spent,
        lifetime=counted.lifetime,
    )
