"""What is asked of the held-out rows."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class EvaluationConfig(Frozen):
    """Counts on the held-out rows, summed over clients; noisy when the run is private."""

    bins: int = Field(
        40, ge=4, le=1000, multiple_of=2, description="Bins of the score histogram from which curves are computed."
    )
