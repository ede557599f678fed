"""The data owner's policy: what this client allows, whatever a coordinator asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from pipeline.contract import Frozen
from privacy.errors import ActionForbidden, CohortTooSmall, ForbiddenColumn, PlanInvalid

ActionName = Literal["join", "keys", "ingest", "validate", "preprocess", "train", "evaluate", "reveal"]
ACTIONS: tuple[ActionName, ...] = get_args(ActionName)


class ClientPolicy(Frozen):
    """Stored as `policy.yaml` in the client's home; nobody else can change it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of this client in the federation.")
    source: Path = Field(description="CSV or Parquet file with the data.")
    lifetime_epsilon: float = Field(gt=0, description="Most that may ever be spent on one record (.inf: no limit).")
    lifetime_delta: float = Field(1e-5, gt=0, lt=1, description="Delta at which the lifetime epsilon is stated.")
    min_cohort: int = Field(5, ge=2, description="Fewest clients in any sum this client opens or takes part in.")
    min_rows: int = Field(100, ge=2, description="Take no part with fewer rows.")
    require_masks: bool = Field(False, description="Take part only in sums with pairwise masks.")
    allowed_actions: tuple[ActionName, ...] = Field(
        ACTIONS, description="What a coordinator may ask this client to do."
    )
    max_parameters: int = Field(
        100_000_000, ge=1, description="Largest model this client trains: more parameters can remember more."
    )
    forbidden_columns: tuple[str, ...] = Field((), description="Columns that never enter, whatever the contract says.")

    @property
    def unlimited(self) -> bool:
        return math.isinf(self.lifetime_epsilon)

    def permit_columns(self, names: Iterable[str]) -> None:
        """Raise ForbiddenColumn for one that this owner forbids."""
        for name in sorted({*names} & {*self.forbidden_columns}):
            raise ForbiddenColumn(f"column {name} may not be used", remedy="Take it out of data.columns.", travels=True)

    def permit_action(self, name: str) -> None:
        """Raise ActionForbidden for what this owner does not allow."""
        if name not in self.allowed_actions:
            raise ActionForbidden(f"this client's policy does not allow the action {name}", travels=True)

    def permit_model(self, parameters: int) -> None:
        """Raise ActionForbidden for a larger model than this owner allows."""
        if parameters > self.max_parameters:
            raise ActionForbidden(
                f"a model of {parameters:,} parameters; this client's policy allows {self.max_parameters:,}",
                remedy="Make model.hidden smaller.",
                travels=True,
            )

    def permit_group(self, masks: bool) -> None:
        """Raise PlanInvalid when this owner demands masks and the group has none."""
        if self.require_masks and not masks:
            raise PlanInvalid(
                "this client's policy demands pairwise masks", remedy="Set encryption.masks: true.", travels=True
            )

    def permit_cohort(self, size: int) -> None:
        """Raise CohortTooSmall below this owner's minimum."""
        if size < self.min_cohort:
            raise CohortTooSmall(
                f"a sum over {size} clients; this client's policy demands {self.min_cohort}", travels=True
            )
