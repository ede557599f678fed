"""evaluation: the revealed model on every client's held-out rows, as one sealed sum of noisy counts."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.federation.counting import Question, count
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.protocol import Action, EvaluateRequest
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.evaluation import EvaluationConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import Cohort, EvaluationReport, FeatureSet, TrainedModel
from pipeline.store.journal import Journal
from privacy.statement import basis_of


@stage(produces="evaluation_report", place="clients", asks=(Action.KEYS, Action.EVALUATE, Action.REVEAL), charges=True)
def evaluation(
    clients: Clients,
    journal: Journal,
    cohort: Cohort,
    feature_set: FeatureSet,
    trained_model: TrainedModel,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    model: Model,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    lines: Lines,
) -> EvaluationReport:
    """Raises CohortTooSmall, RevealDisagreement."""
    clients.meet(cohort.public_keys)
    noise = SumTerms.of(privacy, lines.lines, encryption, clients.min_cohort)
    weights = {"weights": journal.artifact(trained_model.weights)}
    basis, question = basis_of(weights["weights"]), data.task.question(evaluation.bins)
    counted = count(
        clients,
        journal,
        {name: cohort.public_keys[name] for name in feature_set.digests},
        noise,
        Question(
            action=Action.EVALUATE,
            purpose="evaluate",
            query=question,
            basis=basis,
            line="evaluation",
            request=lambda name, attempt: EvaluateRequest(
                execution=journal.execution,
                features=feature_set.digests[name],
                spec=feature_set.spec,
                model=model,
                privacy=privacy,
                encryption=noise.encryption,
                training=training,
                shares=noise.shares,
                evaluation=evaluation,
                lines=lines.lines,
                holdout=data.holdout,
                basis=basis,
                attempt=attempt,
                seen=clients.heads.head(name),
            ),
            blobs=lambda name: weights,
            remedy="Change evaluation.bins to make, and pay for, another evaluation.",
        ),
    )
    measured = question.read(counted.counts, counted.noise)
    return EvaluationReport(
        clients=counted.clients,
        question=question,
        counts=tuple(counted.counts.tolist()),
        noise=counted.noise,
        metrics={name: found.value for name, found in measured.items()},
        errors={name: found.error for name, found in measured.items()},
        spent=counted.spent,
        lifetime=counted.lifetime,
    )
