"""tuning: settings that make the loss smaller, found on rows that are nobody's. It asks no client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.engine.graph import stage
from pipeline.engine.progress import Notice, Progress
from pipeline.language.changing import check_space
from pipeline.language.config import Config
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.evaluation import EvaluationConfig
from pipeline.language.settings.federation import FederationConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.statistics import StatisticsConfig
from pipeline.language.settings.training import TrainingConfig
from pipeline.language.settings.tuning import TuningConfig
from pipeline.language.settings.validation import ValidationConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.stages.values import StatisticsReport, Trial, TuningReport
from pipeline.store.journal import Journal

if TYPE_CHECKING:  # who does not search does not pay for what a search imports
    from pipeline.tuning.rows import Examples


@stage(produces="tuning_report", place="here", resources=None)
def tuning(
    journal: Journal,
    studies: str,
    progress: Progress,
    statistics_report: StatisticsReport,
    data: DataContract,
    validation: ValidationConfig,
    statistics: StatisticsConfig,
    privacy: Privacy,
    encryption: EncryptionConfig,
    federation: FederationConfig,
    model: Model,
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    tuning: TuningConfig,
) -> TuningReport:
    """Raises ConfigError, SourceMissing, TooFewRows. Interrupted, it goes on after the last trial that was finished."""
    config = Config(
        name="tuning",
        data=data,
        validation=validation,
        statistics=statistics,
        privacy=privacy,
        encryption=encryption,
        federation=federation,
        model=model,
        training=training,
        evaluation=evaluation,
        tuning=tuning,
    )
    return tuned(config, statistics_report, studies, journal.execution, progress)


def tuned(config: Config, report: StatisticsReport, studies: str, name: str, progress: Progress) -> TuningReport:
    """What the search has found. studies: SQLAlchemy URL of where it is kept, under `name`."""
    from pipeline.tuning.search import best_of, search

    check_space(config)
    examples = examples_of(config, report)

    def told(number: int, text: str) -> None:
        progress(Notice(f"trial {number} of {config.tuning.trials}  {text}"))

    trials = search(config, examples, studies, name, told)
    best = best_of(config, trials)
    return TuningReport(
        on=config.tuning.on,
        metric=config.data.task.headline,
        rows=len(examples.targets),
        trials=tuple(Trial(**trial) for trial in trials),
        best=best["number"],
    )


def examples_of(config: Config, report: StatisticsReport) -> Examples:
    """The rows that settings are tried on. Raises ConfigError where there are none."""
    from pipeline.learning.features import FeatureSpec
    from pipeline.tuning.rows import public, synthetic
    from privacy.errors import ConfigError

    spec = report.fitted(FeatureSpec.of(config.data))
    if config.tuning.on == "public" and config.tuning.table is not None:
        return public(config.tuning.table, spec)
    if report.question is None:
        raise ConfigError(
            "tuning on synthetic rows needs the statistics of the run, and it pays for none",
            remedy="Set statistics.epsilon_share, say to 0.3; or tuning.on to public, with a table.",
        )
    counts = np.array(report.counts, dtype=np.int64)
    draw = np.random.default_rng(config.tuning.seed)
    return synthetic(report.question, counts, spec, config.tuning.drawn, draw)
