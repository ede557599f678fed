"""How the clients' vectors are summed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.kinds import Frozen


class EncryptionConfig(Frozen):
    """How the clients' vectors are summed."""

    scheme: Literal["bfv", "none"] = Field("bfv", description="bfv: the coordinator adds what it cannot read.")
    bound: float = Field(2.0, gt=0, allow_inf_nan=False, description="Clip of each coordinate of an update.")
    masks: bool | None = Field(
        None,
        description="Pairwise masks: not even a client together with the coordinator can read another client's update. "
        "Default: on in groups of up to 64 clients.",
    )
