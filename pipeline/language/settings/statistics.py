"""What is asked about how the data is distributed."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


class StatisticsConfig(Frozen):
    """Counts of each column by outcome over all clients' training rows, as one encrypted and noisy sum. What follows
    from them, means, quantiles, shares and the edges that a column's encoding waits for, costs nothing more."""

    epsilon_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of privacy.epsilon that the statistics cost alone; 0: none are asked. Composed with "
        "training it is far less: 0.3 needs about 6 % more noise there.",
    )
    bins: int = Field(64, ge=8, le=1000, description="Into how many parts the bounds of a column are divided.")
