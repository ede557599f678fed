"""A federation on one machine."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class SimulationConfig(Frozen):
    """A federation on one machine: the table that is split into clients, and the policy those clients have."""

    dataset: str = Field(description="`fars`, or the path of a CSV or Parquet file.")
    partition_by: str | None = Field(None, description="Column whose values decide the client; none: evenly at random.")
    partitions: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Client name -> values of partition_by; empty: one client a value."
    )
    clients: int = Field(7, ge=2, description="Number of clients when there is no partition_by.")
    key: tuple[str, ...] = Field((), description="Columns that identify a person, at every client.")
    workers: int | None = Field(None, ge=1, description="Worker processes; default: one a CPU.")
    lifetime_epsilon: float = Field(
        8.0, gt=0, description="Lifetime budget in each simulated client's policy (.inf: none)."
    )
