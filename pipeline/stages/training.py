"""training: rounds of federated averaging under encryption, and the final model revealed by the clients."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.federation.rounds import Assignment, train
from pipeline.language.lines import Lines
from pipeline.language.protocol import Action
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import Cohort, FeatureSet, TrainedModel
from pipeline.store.journal import Journal


@stage(produces="trained_model", place="clients", charges=True, asks=(Action.KEYS, Action.TRAIN, Action.REVEAL))
def training(
    clients: Clients,
    journal: Journal,
    cohort: Cohort,
    feature_set: FeatureSet,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    model: Model,
    training: TrainingConfig,
    lines: Lines,
) -> TrainedModel:
    """Raises CohortTooSmall, RevealDisagreement. Interrupted, it goes on from the last checkpointed round."""
    clients.meet(cohort.public_keys)
    assignment = Assignment(
        features=feature_set.digests,
        spec=feature_set.spec,
        holdout=data.holdout,
        lines=lines.lines,
        privacy=privacy,
        encryption=encryption,
        model=model,
        training=training,
    )
    trained = train(clients, journal, cohort.public_keys, assignment)
    revealed = trained.revealed
    return TrainedModel(
        weights=journal.put("weights", revealed.value),
        parameters=assignment.net.parameters,
        rounds=trained.rounds,
        spent=revealed.spent,
        salt=revealed.salt.hex(),
        attested=revealed.attested,
        unconfirmed=revealed.unconfirmed,
    )
