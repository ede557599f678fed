"""The endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from pipeline.host.databases import named_database
from pipeline.kinds import Frozen


class FeedbackConfig(Frozen):
    """What becomes of predictions."""

    store: str = Field(
        "serving/feedback.db",
        description="Where outcomes are kept: a file in the workspace, or a SQLAlchemy URL such as "
        "postgresql+psycopg://writer@host/db. Without a password: PGPASSFILE or PGPASSWORD has it.",
    )
    keep_rows: bool = Field(
        False,
        description="Keep the raw rows of predictions too, so that a client whose owner is the operator can train on "
        "those whose outcome came (source kind stream).",
    )

    @field_validator("store")
    @classmethod
    def _without_password(cls, store: str) -> str:
        return named_database(store, "writer", "configuration") if "://" in store else store

    def url(self, root: Path) -> str:
        """root: of the workspace."""
        return self.store if "://" in self.store else f"sqlite:///{root.absolute() / self.store}"


class ServingConfig(Frozen):
    """The endpoint, supervised by Ray Serve."""

    host: str = Field("127.0.0.1", description="Address the endpoint listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of HTTP; 0 picks a free one.")
    grpc_port: int | None = Field(
        8001, ge=0, le=65535, description="Port of gRPC; 0 picks a free one, null opens none."
    )
    replicas: int = Field(1, ge=1, le=64, description="Processes that answer, on the same ports.")
    poll_seconds: float = Field(1.0, gt=0, description="How often the registry is looked at.")
    max_rows: int = Field(1000, ge=1, description="Most rows in one request.")
    max_bytes: int = Field(4 * 2**20, ge=1024, description="Most bytes in the body of a request, unpacked.")
    body_seconds: float = Field(10.0, gt=0, description="How long a request may take to arrive.")
    per_minute: int | None = Field(
        None, ge=1, description="Most questions of one caller in a minute, all replicas together; null: no limit."
    )
    decimals: int | None = Field(
        None,
        ge=0,
        le=6,
        description="Decimals that scores are answered with: the fewer, the less an answer tells about a record that "
        "was trained on. None: all.",
    )
    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig, description="Outcomes, and where they are kept.")
    certificate: Path | None = Field(None, description="TLS certificate chain, PEM; none: no TLS.")
    key: Path | None = Field(None, description="Its private key, PEM.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together")
        return self
