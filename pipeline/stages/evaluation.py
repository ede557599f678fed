"""evaluation: the revealed model on every client's held-out rows, as one sealed sum of noisy counts."""

from __future__ import annotations

import numpy as np

from pipeline.config import EncryptionConfig, EvaluationConfig, ModelConfig, Privacy
from pipeline.contract import DataContract
from pipeline.dag import stage
from pipeline.federation import Federation as Clients
from pipeline.journal import Journal
from pipeline.metrics import metrics, roc_auc_error
from pipeline.protocol import Action, EvaluateReply, EvaluateRequest, RevealRequest, SumRef
from pipeline.secure_sum import SecureSum, sum_blobs
from pipeline.values import Cohort, EvaluationReport, FeatureSet, TrainedModel
from privacy.errors import CohortTooSmall, ProtocolError, SumRejected


@stage(produces="evaluation_report", place="clients", charges=True)
def evaluation(
    clients: Clients,
    journal: Journal,
    cohort: Cohort,
    feature_set: FeatureSet,
    trained_model: TrainedModel,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    model: ModelConfig,
    evaluation: EvaluationConfig,
) -> EvaluationReport:
    """Raises CohortTooSmall, RevealDisagreement."""
    group = SecureSum(clients, journal, encryption)
    group.establish({name: cohort.members[name].public_key for name in feature_set.digests})
    weights = {"weights": journal.artifact(trained_model.weights)}
    total = group.collect(
        Action.EVALUATE,
        lambda name: EvaluateRequest(
            execution=journal.execution,
            features=feature_set.digests[name],
            spec=feature_set.spec,
            model=model,
            privacy=privacy,
            encryption=encryption,
            evaluation=evaluation,
            holdout=data.holdout,
        ),
        EvaluateReply,
        weights,
    )
    if not total.clients:
        raise CohortTooSmall(
            f"the evaluation was interrupted after it was charged at {', '.join(total.lost)}; it is not made twice",
            remedy="Change evaluation.bins to make, and pay for, another evaluation.",
        )
    sums = (SumRef(round=1, clients=total.clients),)
    revealed = group.reveal(
        lambda name, value: RevealRequest(
            execution=journal.execution,
            what="counts",
            sums=sums,
            bound=encryption.bound,
            count=2 * evaluation.bins,
            value=value,
        ),
        lambda name: sum_blobs([(sums[0], total.sealed)]),
    )
    if revealed is None:
        raise SumRejected("the summed counts do not verify", remedy="A client sent an upload that is not its own.")
    if len(revealed.value) != 16 * evaluation.bins:
        raise ProtocolError("the revealed counts have the wrong length")
    counts = np.frombuffer(revealed.value, dtype="<i8").reshape(2, evaluation.bins)
    return EvaluationReport(
        clients=total.clients,
        negative=tuple(counts[0].tolist()),
        positive=tuple(counts[1].tolist()),
        metrics=metrics(counts[0], counts[1]),
        roc_auc_error=roc_auc_error(counts[0], counts[1], total.noise),
        spent=revealed.spent,
        lifetime=revealed.lifetime,
    )
