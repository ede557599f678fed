"""registration: the model as an immutable version, with everything needed to use and to judge it."""

from __future__ import annotations

import json

import numpy as np

from pipeline.engine.graph import stage
from pipeline.kinds import codes_of
from pipeline.language.lines import Lines
from pipeline.language.noise import shares_noise
from pipeline.language.protocol import own_version, result_digest
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import ClientPrivacy, Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import (
    AuditReport,
    Cohort,
    EvaluationReport,
    FeatureSet,
    ModelVersion,
    PrivacyStatement,
    StatisticsReport,
    TrainedModel,
)
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.registry import Registry
from privacy.plan import ADJACENCY

ALONE = {"validation"}
"""What each client answers by itself, with all the noise it needs."""


@stage(produces="model_version", place="here", resources=None)
def registration(
    registry: Registry,
    store: ArtifactStore,
    name: str,
    cohort: Cohort,
    feature_set: FeatureSet,
    statistics_report: StatisticsReport,
    trained_model: TrainedModel,
    evaluation_report: EvaluationReport,
    audit_report: AuditReport,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    model: Model,
    training: TrainingConfig,
    lines: Lines,
) -> ModelVersion:
    """A version is a record of what was made, blessed or not: what it is compared with is no part of it."""
    statement = privacy_statement(privacy, encryption, lines)
    content = store.get(trained_model.weights)
    weights = np.frombuffer(content, dtype="<f4").astype(np.float32)
    spec, report = feature_set.spec, evaluation_report
    net = model.net(spec.shape, spec.task.outputs, training.seed)
    lineage = {
        "clients": {client: cohort.members[client].model_dump() for client in feature_set.digests},
        "features": feature_set.digests,
        "rounds": {number: list(clients) for number, clients in trained_model.rounds.items()},
        "weights": trained_model.weights,
        "vouched_for": result_digest(bytes.fromhex(trained_model.salt), content),
        "code": codes_of(spec, model),
        "sottovoce": own_version(),
    }
    files = {
        **net.files(weights),
        "features.json": spec.model_dump_json(indent=1).encode(),
        "model.json": model.model_dump_json(indent=1).encode(),
        "schema.json": json.dumps(row_schema(data), indent=1).encode(),
        "metrics.json": evaluation_report.model_dump_json(indent=1).encode(),
        "privacy.json": statement.model_dump_json(indent=1).encode(),
        "lineage.json": json.dumps(lineage, indent=1, sort_keys=True).encode(),
    }
    files |= {name: json.dumps(told, indent=1).encode() for name, told in net.told(spec.task, weights).items()}
    if audit_report.unit is not None:
        files["audit.json"] = audit_report.model_dump_json(indent=1).encode()
    if statistics_report.question is not None:
        files["statistics.json"] = statistics_report.model_dump_json(indent=1).encode()
    compared = {metric: report.metrics[metric] for metric in spec.task.measures}
    errors = {metric: report.errors[metric] for metric in compared}
    made = registry.register(name, files, compared, {"privacy": statement.text}, errors)
    return ModelVersion(
        name=name,
        version=made.version,
        folder=str(made.folder),
        metrics=compared,
        privacy=statement,
    )


def row_schema(data: DataContract) -> dict[str, object]:
    """JSON Schema of one raw row as the endpoint takes it."""
    properties = {name: column.json_schema for name, column in data.columns.items()}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def privacy_statement(privacy: Privacy, encryption: EncryptionConfig, lines: Lines) -> PrivacyStatement:
    """What may be said about a model trained under these settings."""
    summed = (
        "updates were summed under encryption"
        if encryption.scheme == "bfv"
        else "UPDATES WERE SUMMED WITHOUT ENCRYPTION"
    )
    if privacy == "none":
        return PrivacyStatement(
            unit="none",
            adjacency=ADJACENCY["none"],
            epsilon=None,
            delta=None,
            clipping_norm=None,
            aggregation=encryption.scheme,
            lines=lines.lines,
            text=f"NOT PRIVATE: no differential privacy; {summed}",
        )
    adjacency = ADJACENCY[privacy.unit]
    shared = [line.purpose for line in lines.lines if shares_noise(privacy, lines.lines, line.purpose)]
    if not isinstance(privacy, ClientPrivacy) and (shared := [name for name in shared if name not in ALONE]):
        summed += (
            f"; the clients share the noise of {' and '.join(shared)}: it holds as long as no more than "
            f"{privacy.colluders} of them pool what they know"
        )
    return PrivacyStatement(
        unit=privacy.unit,
        adjacency=adjacency,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        clipping_norm=privacy.clipping_norm,
        aggregation=encryption.scheme,
        lines=lines.lines,
        text=f"every {privacy.unit}: epsilon {privacy.epsilon:g}, delta {privacy.delta:g}, {adjacency}; {summed}",
    )
