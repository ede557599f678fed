"""evaluation: the revealed model on every client's held-out rows, as one sealed sum of noisy counts."""

from __future__ import annotations

import json

import numpy as np

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.federation.membership import GroupMembers
from pipeline.federation.secure_sum import SealedSum, SecureSum, Wanted, sum_blobs
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.protocol import Action, EvaluateReply, EvaluateRequest, RevealRequest, SumRef
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.evaluation import EvaluationConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import Cohort, EvaluationReport, FeatureSet, TrainedModel
from pipeline.store.journal import Journal
from privacy.errors import CohortTooSmall, ProtocolError, SumRejected
from privacy.statement import agreed, basis_of


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
    encryption = noise.encryption
    membership = GroupMembers(clients, journal, encryption, "evaluate")
    membership.establish({name: cohort.public_keys[name] for name in feature_set.digests})
    group = SecureSum(clients, membership)
    weights = {"weights": journal.artifact(trained_model.weights)}
    basis = basis_of(weights["weights"])
    question = data.task.question(evaluation.bins)
    count = question.size
    total = _collected(journal) or group.collect(
        Wanted(
            action=Action.EVALUATE,
            purpose="evaluate",
            round=1,
            reply=EvaluateReply,
            request=lambda name, attempt, again: EvaluateRequest(
                execution=journal.execution,
                features=feature_set.digests[name],
                spec=feature_set.spec,
                model=model,
                privacy=privacy,
                encryption=encryption,
                training=training,
                shares=noise.shares,
                evaluation=evaluation,
                lines=lines.lines,
                holdout=data.holdout,
                basis=basis,
                attempt=attempt,
                seen=clients.heads.head(name),
            ),
            blobs=lambda name, again: {} if again else weights,
            coefficients=lambda layout: count,
            terms=agreed(basis, noise.terms),
        )
    )
    ref = total.ref
    if ref is None:
        raise CohortTooSmall(
            f"the evaluation was interrupted after it was charged at {', '.join(total.lost)}; it is not made twice",
            remedy="Change evaluation.bins to make, and pay for, another evaluation.",
        )
    _keep(journal, total)  # before anyone opens it: it is not made again
    revealed = group.reveal(
        lambda name, certificate: RevealRequest(
            execution=journal.execution,
            what="counts",
            sums=(ref,),
            count=count,
            certificate=dict(certificate),
        ),
        lambda name: sum_blobs([(ref, total.sealed)]),
    )
    if revealed is None:
        raise SumRejected("the summed counts do not verify", remedy="A client sent an upload that is not its own.")
    if len(revealed.value) != 8 * count:
        raise ProtocolError("the revealed counts have the wrong length")
    counts = np.frombuffer(revealed.value, dtype="<i8")
    measured = question.read(counts, total.noise)
    return EvaluationReport(
        clients=ref.clients,
        question=question,
        counts=tuple(counts.tolist()),
        noise=total.noise,
        metrics={name: found.value for name, found in measured.items()},
        errors={name: found.error for name, found in measured.items()},
        spent=revealed.spent,
        lifetime=revealed.lifetime,
    )


COLLECTED = "counts"


def _collected(journal: Journal) -> SealedSum | None:
    """The sum that an earlier attempt of this execution had collected."""
    if (content := journal.get(COLLECTED)) is None:
        return None
    header, _, sealed = content.partition(b"\n")
    fields = json.loads(header)
    return SealedSum(SumRef.model_validate(fields["ref"]), sealed, noise=float(fields["noise"]))


def _keep(journal: Journal, total: SealedSum) -> None:
    if total.ref:
        header = json.dumps({"ref": total.ref.model_dump(mode="json"), "noise": total.noise}).encode()
        journal.put(COLLECTED, header + b"\n" + total.sealed)
