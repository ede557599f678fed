"""preprocessing: every client turns its snapshot into feature matrices by one spec."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.federation.clients import Clients
from pipeline.language.protocol import Action, PreprocessReply, PreprocessRequest
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.stages.values import Cohort, FeatureSet, StatisticsReport, ValidationReport


@stage(produces="feature_set", place="clients", asks=(Action.PREPROCESS,))
def preprocessing(
    clients: Clients,
    cohort: Cohort,
    validation_report: ValidationReport,
    statistics_report: StatisticsReport,
    data: DataContract,
) -> FeatureSet:
    """Raises CohortTooSmall."""
    clients.meet(cohort.public_keys)
    spec = statistics_report.fitted(FeatureSpec.of(data))
    passed = validation_report.passed
    asked = clients.ask(
        Action.PREPROCESS,
        lambda name: PreprocessRequest(spec=spec, snapshot=passed[name], holdout=data.holdout),
        PreprocessReply,
        clients=passed,
    )
    return FeatureSet(
        spec=spec,
        digests={answer.client: answer.reply.features for answer in asked.answers},
    )
