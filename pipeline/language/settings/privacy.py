"""What is protected, and the budget: tuned here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.kinds import Frozen


class RecordPrivacy(Frozen):
    """Differential privacy of a record, or of a person with all records: DP-SGD, adjacency add/remove one of them."""

    unit: Literal["record", "subject"] = Field(
        description="What is protected: one record; or subject, all records of one person, as the key of each client's "
        "source names persons."
    )
    epsilon: float = Field(
        gt=0, le=10_000, allow_inf_nan=False, description="Epsilon of the whole run for each client."
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="Delta of the whole run for each client.")
    clipping_norm: float = Field(1.0, ge=1e-3, le=1e6, description="L2 bound of one record's gradient.")
    noise: Literal["own", "shared"] = Field(
        "own",
        description="own: each client adds all the noise that its records need. shared: what is one sum over all "
        "clients has the noise of a cohort, of which each adds a part; local steps keep their own.",
    )
    colluders: int = Field(
        1, ge=1, description="Of shared noise: clients assumed to pool what they know, the noise they added included."
    )


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
