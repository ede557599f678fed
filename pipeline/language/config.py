"""The configuration of a run: one YAML file, one frozen model. The privacy budget is tuned here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.kinds import Frozen
from pipeline.learning.contract import DataContract
from pipeline.learning.models.mlp import ModelConfig


class ValidationConfig(Frozen):
    """What is looked for in each client's data, by noisy counts. A WARN is reported; a FAIL excludes the client. Both
    are said only of what stands out from the noise by four deviations."""

    epsilon_share: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Fraction of privacy.epsilon that the checks cost alone; 0: no check looks at the data. Composed "
        "with training it is far less: 0.3 needs about 6 % more noise there.",
    )
    unknown_categories: float = Field(
        0.01, ge=0, le=1, description="FAIL when more than this fraction of a column's values is undeclared."
    )
    out_of_bounds: float = Field(0.01, ge=0, le=1, description="FAIL when more than this fraction is out of bounds.")
    minority_share: float = Field(0.05, ge=0, le=0.5, description="WARN when the rarer class has a smaller share.")
    duplicates: float = Field(0.01, ge=0, le=1, description="WARN when a larger fraction of rows is an exact copy.")
    leakage: float = Field(
        0.98, gt=0.5, le=1, description="FAIL when one column alone ranks the label with at least this ROC-AUC."
    )


class RecordPrivacy(Frozen):
    """Record-level differential privacy by DP-SGD, adjacency add/remove one record."""

    unit: Literal["record"] = Field(description="What is protected: one record.")
    epsilon: float = Field(
        gt=0, le=10_000, allow_inf_nan=False, description="Epsilon of the whole run for each client."
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="Delta of the whole run for each client.")
    clipping_norm: float = Field(1.0, ge=1e-3, le=1e6, description="L2 bound of one record's gradient.")


class ClientPrivacy(Frozen):
    """Client-level differential privacy: whole updates are clipped, and the clients share the noise."""

    unit: Literal["client"] = Field(description="What is protected: all the data of one client.")
    epsilon: float = Field(
        gt=0, le=10_000, allow_inf_nan=False, description="Epsilon of the whole run for each client."
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="Delta of the whole run for each client.")
    clipping_norm: float = Field(1.0, ge=1e-3, le=1e6, description="L2 bound of one client's update.")
    colluders: int = Field(
        1, ge=1, description="Clients assumed to pool what they know, the noise they added included."
    )


Privacy = Literal["none"] | Annotated[RecordPrivacy | ClientPrivacy, Field(discriminator="unit")]


class EncryptionConfig(Frozen):
    """How the clients' vectors are summed."""

    scheme: Literal["bfv", "none"] = Field("bfv", description="bfv: the coordinator adds what it cannot read.")
    bound: float = Field(2.0, gt=0, allow_inf_nan=False, description="Clip of each coordinate of an update.")
    masks: bool | None = Field(
        None,
        description="Pairwise masks: not even a client together with the coordinator can read another client's update. "
        "Default: on in groups of up to 64 clients.",
    )


class FederationConfig(Frozen):
    """Which clients a run waits for, and how many it needs."""

    min_cohort: int = Field(5, ge=2, description="Fewest clients in any sum; clients enforce it too.")
    timeout: float = Field(600.0, gt=0, description="Seconds to wait for the replies of one request.")
    expected_clients: int | None = Field(None, ge=2, description="Wait for this many clients to connect; default: all.")


class TrainingConfig(Frozen):
    """Federated averaging with local SGD."""

    rounds: int = Field(10, ge=1, description="Rounds of federated averaging.")
    local_epochs: int = Field(2, ge=1, description="Passes (in expectation) over the local rows in each round.")
    expected_batch: int = Field(1024, ge=1, description="Expected size of a Poisson batch.")
    learning_rate: float = Field(0.5, gt=0, allow_inf_nan=False, description="Step size of local SGD.")
    decay: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="The step size falls linearly by this fraction over the rounds: late noise weighs less.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of local SGD, fresh each round.")
    proximal: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="FedProx: pull of local training back to the global model."
    )
    weight_cap: int = Field(
        10_000,
        ge=1,
        description="A client weighs the rows it declares, at most so many; 1: all weigh the same.",
    )
    seed: int = Field(0, ge=0, description="Seed of the initial weights. Noise and sampling are never seeded.")


class EvaluationConfig(Frozen):
    """Counts on the held-out rows, summed over clients; noisy when the run is private."""

    bins: int = Field(
        40, ge=4, le=1000, multiple_of=2, description="Bins of the score histogram from which curves are computed."
    )


class RegistrationConfig(Frozen):
    """What a version must reach to become champion."""

    min_roc_auc: float = Field(0.5, ge=0, le=1, description="A version below is registered but not promoted.")
    max_regression: float = Field(
        0.01, ge=0, le=1, description="A version this much below the champion's ROC-AUC is not promoted."
    )


class ServingConfig(Frozen):
    """The Ray Serve endpoint."""

    host: str = Field("127.0.0.1", description="Address the endpoint listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the endpoint listens on; 0 picks a free one.")
    replicas: int = Field(1, ge=1, description="Serve replicas.")
    poll_seconds: float = Field(1.0, gt=0, description="How often a replica looks for a new champion.")
    max_rows: int = Field(1000, ge=1, description="Most rows in one request.")


class StorageConfig(Frozen):
    """Where artifacts and metadata live. Relative to the workspace unless they are URLs."""

    artifacts: str = Field("artifacts", description="Folder or fsspec URL of the artifact store.")
    metadata: str = Field("metadata.db", description="SQLite file or SQLAlchemy URL of lineage metadata.")
    registry: str = Field("registry.db", description="SQLite file or MLflow tracking URL of the registry.")


class SimulationConfig(Frozen):
    """A federation on one machine: the table that is split into clients, and the policy those clients have."""

    dataset: str = Field(description="`fars`, or the path of a CSV or Parquet file.")
    partition_by: str | None = Field(None, description="Column whose values decide the client; none: evenly at random.")
    partitions: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Client name -> values of partition_by; empty: one client a value."
    )
    clients: int = Field(7, ge=2, description="Number of clients when there is no partition_by.")
    workers: int | None = Field(None, ge=1, description="Worker processes; default: one a CPU.")
    lifetime_epsilon: float = Field(
        8.0, gt=0, description="Lifetime budget in each simulated client's policy (.inf: none)."
    )


class Config(Frozen):
    """One run of the pipeline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the model.")
    data: DataContract = Field(description="The data contract.")
    validation: ValidationConfig = Field(default_factory=ValidationConfig, description="Checks of each client's data.")
    privacy: Privacy = Field(description="`none`, or the unit and budget of differential privacy.")
    encryption: EncryptionConfig = Field(default_factory=EncryptionConfig, description="Encrypted aggregation.")
    federation: FederationConfig = Field(default_factory=FederationConfig, description="Who has to take part.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The model.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="Federated training.")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="Evaluation.")
    registration: RegistrationConfig = Field(default_factory=RegistrationConfig, description="Promotion of versions.")
    serving: ServingConfig = Field(default_factory=ServingConfig, description="The endpoint.")
    storage: StorageConfig = Field(default_factory=StorageConfig, description="Where artifacts live.")
    simulation: SimulationConfig | None = Field(None, description="Only for `sottovoce simulate`.")

    @field_validator("privacy", mode="before")
    @classmethod
    def _explain(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("unit") not in ("record", "client"):
            raise ValueError(f"unknown unit {value.get('unit')!r}; the units are: record, client, or `privacy: none`")
        if value != "none" and not isinstance(value, dict | Frozen):
            raise ValueError(f"{value!r} is neither `none` nor a unit with its budget")
        return value

    @model_validator(mode="after")
    def _cohort(self) -> Self:
        wanted = self.federation.expected_clients
        if wanted is not None and wanted < self.federation.min_cohort:
            raise ValueError(f"expected_clients {wanted} is below min_cohort {self.federation.min_cohort}")
        if isinstance(self.privacy, ClientPrivacy):
            if self.encryption.scheme == "none" or self.encryption.masks is False:
                raise ValueError("privacy.unit client divides the noise among the clients: it needs bfv and masks")
            if self.privacy.colluders >= self.federation.min_cohort:
                raise ValueError(
                    f"privacy.colluders {self.privacy.colluders} leaves nobody honest in federation.min_cohort "
                    f"{self.federation.min_cohort}"
                )
        return self
