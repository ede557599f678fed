"""What is looked for in each client's data."""

from __future__ import annotations

from pydantic import Field

from pipeline.kinds import Frozen


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
    out_of_bounds: float = Field(
        0.01,
        ge=0,
        le=1,
        description="FAIL when more than this fraction is out of bounds, or cannot be read.",
    )
    missing: float = Field(
        0.95, ge=0, le=1, description="FAIL when more than this fraction of a column's values is missing."
    )
    minority_share: float = Field(0.05, ge=0, le=0.5, description="WARN when the rarer class has a smaller share.")
    duplicates: float = Field(0.01, ge=0, le=1, description="WARN when a larger fraction of rows is an exact copy.")
    leakage: float = Field(
        0.98, gt=0.5, le=1, description="FAIL when one column alone ranks the label with at least this ROC-AUC."
    )
