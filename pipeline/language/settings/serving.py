"""The endpoint."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class ServingConfig(Frozen):
    """The Ray Serve endpoint."""

    host: str = Field("127.0.0.1", description="Address the endpoint listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the endpoint listens on; 0 picks a free one.")
    replicas: int = Field(1, ge=1, description="Serve replicas.")
    poll_seconds: float = Field(1.0, gt=0, description="How often a replica looks for a new champion.")
    max_rows: int = Field(1000, ge=1, description="Most rows in one request.")
