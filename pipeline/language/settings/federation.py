"""Which clients a run waits for."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class FederationConfig(Frozen):
    """Which clients a run waits for, and how many it needs."""

    min_cohort: int = Field(5, ge=2, description="Fewest clients in any sum; clients enforce it too.")
    timeout: float = Field(600.0, gt=0, description="Seconds to wait for the replies of one request.")
    expected_clients: int | None = Field(None, ge=2, description="Wait for this many clients to connect; default: all.")
