"""The audit: can what is promised be refuted?"""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class AuditConfig(Frozen):
    """A replica of the job with made-up records in it, attacked. It reads nobody's data and costs no budget."""

    enabled: bool = Field(False, description="Whether each run is audited before its version may be promoted.")
    canaries: int = Field(
        20_000,
        ge=100,
        le=100_000,
        description="Records about whose membership is guessed; more can refute larger epsilons.",
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of the bound of epsilon that is shown.")
    shadows: int = Field(
        16, ge=0, le=1000, description="Replicas for the attack on membership by losses; 0: it is not tried."
    )
    records: int = Field(400, ge=20, le=100_000, description="Made-up records of that attack.")
    rows: int = Field(10_000, ge=10, description="Rows that the client of the replica declares.")
