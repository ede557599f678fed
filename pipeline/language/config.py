"""The configuration of a run: one YAML file, one frozen model. The privacy budget is tuned here and nowhere else."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from pipeline.kinds import Frozen
from pipeline.language.settings.audit import AuditConfig
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.evaluation import EvaluationConfig
from pipeline.language.settings.federation import FederationConfig
from pipeline.language.settings.privacy import ClientPrivacy, Privacy
from pipeline.language.settings.registration import RegistrationConfig
from pipeline.language.settings.serving import ServingConfig
from pipeline.language.settings.simulation import SimulationConfig
from pipeline.language.settings.statistics import StatisticsConfig
from pipeline.language.settings.storage import StorageConfig
from pipeline.language.settings.training import TrainingConfig
from pipeline.language.settings.tuning import TuningConfig
from pipeline.language.settings.validation import ValidationConfig
from pipeline.language.settings.watch import WatchConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model


class Config(Frozen):
    """One run of the pipeline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the model.")
    data: DataContract = Field(description="The data contract.")
    validation: ValidationConfig = Field(default_factory=ValidationConfig, description="Checks of each client's data.")
    statistics: StatisticsConfig = Field(
        default_factory=StatisticsConfig, description="How the data of all clients together is distributed."
    )
    privacy: Privacy = Field(description="`none`, or the unit and budget of differential privacy.")
    encryption: EncryptionConfig = Field(default_factory=EncryptionConfig, description="Encrypted aggregation.")
    federation: FederationConfig = Field(default_factory=FederationConfig, description="Who has to take part.")
    model: Model = Field(default_factory=lambda: Model.of({}), description="The model.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="Federated training.")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="Evaluation.")
    tuning: TuningConfig = Field(default_factory=TuningConfig, description="A search among settings.")
    audit: AuditConfig = Field(default_factory=AuditConfig, description="An attack on what is promised.")
    registration: RegistrationConfig = Field(default_factory=RegistrationConfig, description="Promotion of versions.")
    serving: ServingConfig = Field(default_factory=ServingConfig, description="The endpoint.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="Runs that begin by themselves.")
    storage: StorageConfig = Field(default_factory=StorageConfig, description="Where artifacts live.")
    simulation: SimulationConfig | None = Field(None, description="Only for `sottovoce simulate`.")

    @field_validator("privacy", mode="before")
    @classmethod
    def _explain(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("unit") not in ("record", "subject", "client"):
            raise ValueError(
                f"unknown unit {value.get('unit')!r}; the units are: record, subject, client, or `privacy: none`"
            )
        if value != "none" and not isinstance(value, dict | Frozen):
            raise ValueError(f"{value!r} is neither `none` nor a unit with its budget")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        waiting = [name for name, column in self.data.columns.items() if column.unfitted]
        if waiting and not self.statistics.epsilon_share:
            raise ValueError(
                f"column {', '.join(waiting)}: scale quantile needs edges; declare them, or have them asked of the "
                "clients by statistics.epsilon_share above 0"
            )
        self.model.fits(FeatureSpec.of(self.data).shape)
        self.registration.thresholds(self.data.task)
        return self

    @model_validator(mode="after")
    def _by_sums(self) -> Self:
        """What is learned from sums takes no local steps, and has nothing to search for."""
        if self.model.sums and self.tuning.space:
            raise ValueError(f"model {self.model.kind} is learned from sums and needs no tuning: take out tuning.space")
        if self.model.sums and self.audit.enabled:
            raise ValueError(
                f"an audit attacks local steps, and model {self.model.kind} takes none: set audit.enabled: false"
            )
        return self

    @model_validator(mode="after")
    def _cohort(self) -> Self:
        wanted = self.federation.expected_clients
        if wanted is not None and wanted < self.federation.min_cohort:
            raise ValueError(f"expected_clients {wanted} is below min_cohort {self.federation.min_cohort}")
        if isinstance(self.privacy, ClientPrivacy) or (self.privacy != "none" and self.privacy.noise == "shared"):
            said = "unit client" if isinstance(self.privacy, ClientPrivacy) else "noise shared"
            if self.encryption.scheme == "none" or self.encryption.masks is False:
                raise ValueError(f"privacy.{said} divides the noise among the clients: it needs bfv and masks")
            if self.privacy.colluders >= self.federation.min_cohort:
                raise ValueError(
                    f"privacy.colluders {self.privacy.colluders} leaves nobody honest in federation.min_cohort "
                    f"{self.federation.min_cohort}"
                )
        return self
