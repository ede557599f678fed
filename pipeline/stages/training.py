"""training: rounds of federated averaging under encryption, and the final model revealed by the clients."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.federation.rounds import Assignment, train
from pipeline.language.config import EncryptionConfig, Privacy, TrainingConfig
from pipeline.language.protocol import Action
from pipeline.learning.contract import DataContract
from pipeline.learning.models import mlp as models
from pipeline.learning.models.mlp import ModelConfig
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
    model: ModelConfig,
    training: TrainingConfig,
) -> TrainedModel:
    """Raises CohortTooSmall, RevealDisagreement. Interrupted, it goes on from the last checkpointed round."""
    clients.meet(cohort.public_keys)
    assignment = Assignment(
        features=feature_set.digests,
        spec=feature_set.spec,
        holdout=data.holdout,
        checks_share=feature_set.checks_share,
        privacy=privacy,
        encryption=encryption,
        model=model,
        training=training,
    )
    trained = train(clients, journal, cohort.public_keys, assignment)
    revealed = trained.revealed
    return TrainedModel(
        weights=journal.put("weights", revealed.value),
        parameters=models.parameter_count(model, feature_set.spec.width),
        rounds=trained.rounds,
        spent=revealed.spent,
        salt=revealed.salt.hex(),
        attested=revealed.attested,
        unconfirmed=revealed.unconfirmed,
    )
