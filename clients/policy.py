"""The data owner's policy: what this client allows, whatever a coordinator asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from clients.sources.source import Source, as_tree
from pipeline.kinds import Frozen
from pipeline.language.settings.privacy import Privacy, RecordPrivacy
from privacy.errors import (
    ActionForbidden,
    BudgetExhausted,
    CohortTooSmall,
    ForbiddenColumn,
    PlanInvalid,
    TooFewRows,
)
from privacy.wire import Scheme

ActionName = Literal["join", "keys", "ingest", "validate", "statistics", "preprocess", "train", "evaluate", "reveal"]
ACTIONS: tuple[ActionName, ...] = get_args(ActionName)


UnitName = Literal["record", "subject", "client", "none"]


class ClientPolicy(Frozen):
    """Stored as `policy.yaml` in the client's home; nobody else can change it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of this client in the federation.")
    source: Source = Field(
        description="Where the data lie: a kind with its settings; a path is short for the CSV or Parquet file there."
    )
    rows: int = Field(
        ge=1,
        description="About how many rows the source has: a public, rounded number from which every plan is made, so "
        "that the true number decides about nothing that leaves. Far off it costs accuracy, not privacy.",
    )
    subjects: int | None = Field(
        None, ge=1, description="About how many persons the source's key tells apart: public too. Default: rows."
    )
    lifetime_epsilon: float = Field(gt=0, description="Most that may ever be spent on one record (.inf: no limit).")
    lifetime_delta: float = Field(1e-5, gt=0, lt=1, description="Delta at which the lifetime epsilon is stated.")
    run_epsilon: float = Field(4.0, gt=0, description="Most epsilon that a request may have (.inf: the lifetime's).")
    units: tuple[UnitName, ...] = Field(
        ("record", "subject", "client"),
        min_length=1,
        description="What a run may protect; none: runs without privacy too.",
    )
    min_cohort: int = Field(5, ge=2, description="Fewest clients in any sum this client opens or takes part in.")
    colluders: int = Field(1, ge=0, description="Other clients assumed to pool what they know with the coordinator.")
    shared_noise: bool = Field(
        True, description="Add no more than a share of the noise of a sum, where a run asks for that at record level."
    )
    known_clients_only: bool = Field(
        True, description="Take part only with clients whose fingerprints the owner has compared."
    )
    min_rows: int = Field(100, ge=2, description="Take no part with fewer rows declared.")
    require_encryption: bool = Field(True, description="Take part only in sums that the coordinator cannot read.")
    require_masks: bool = Field(True, description="Take part only in sums with pairwise masks, under encryption.")
    allowed_actions: tuple[ActionName, ...] = Field(
        ACTIONS, description="What a coordinator may ask this client to do."
    )
    max_parameters: int = Field(
        100_000_000, ge=1, description="Largest model this client trains: more parameters can remember more."
    )
    allowed_kinds: tuple[str, ...] = Field(
        (),
        description="Classes installed here that a run may name, as `package.module:Class`: models, columns, tasks. "
        "The built-in ones are allowed.",
    )
    forbidden_columns: tuple[str, ...] = Field((), description="Columns that never enter, whatever the contract says.")

    @field_validator("source", mode="before")
    @classmethod
    def _short(cls, source: Any) -> Any:
        return as_tree(source)

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.lifetime_delta >= 1 / self.rows and not self.unlimited:
            raise ValueError(
                f"lifetime_delta {self.lifetime_delta:g} is not below one over rows ({1 / self.rows:.1g}): it would "
                "permit to publish whole records. Choose a smaller one"
            )
        return self

    def units_declared(self, privacy: Privacy) -> int:
        """How many of what a run protects the owner declares: records, or persons."""
        by_person = privacy != "none" and privacy.unit == "subject"
        return self.subjects or self.rows if by_person else self.rows

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
                remedy="Make the model smaller.",
                travels=True,
            )

    def permit_group(self, scheme: Scheme, masks: bool) -> None:
        """Raise PlanInvalid when this owner demands encryption or masks and the group has none."""
        if self.require_encryption and scheme == "none":
            raise PlanInvalid(
                "this client's policy demands encrypted sums", remedy="Set encryption.scheme: bfv.", travels=True
            )
        if self.require_masks and (scheme == "none" or not masks):
            raise PlanInvalid(
                "this client's policy demands pairwise masks under encryption",
                remedy="Set encryption.scheme: bfv and encryption.masks: true.",
                travels=True,
            )

    def quorum(self, clients: int) -> int:
        """Fewest of a group's `clients` that must vouch for its result: two quorums have an honest client in common."""
        return max(self.min_cohort, (clients + self.colluders) // 2 + 1)

    def permit_group_size(self, clients: int) -> None:
        """Raise CohortTooSmall for a group that could never reveal its result."""
        if self.quorum(clients) > clients:
            raise CohortTooSmall(
                f"a group of {clients} clients, of whom {self.quorum(clients)} would have to vouch for its result",
                remedy="More clients, or have the data owner lower colluders in the policy.",
                travels=True,
            )

    def permit_privacy(self, privacy: Privacy) -> None:
        """Raise ActionForbidden for a unit, BudgetExhausted for an epsilon that this owner does not allow a run."""
        unit = privacy if privacy == "none" else privacy.unit
        if unit not in self.units:
            raise ActionForbidden(
                f"this client's policy does not allow privacy {unit}",
                remedy=f"It allows: {', '.join(self.units)}. In a simulation: --set simulation.lifetime_epsilon=.inf",
                travels=True,
            )
        if unit == "subject" and not self.source.key:
            raise ActionForbidden(
                "the source of this client names no persons",
                remedy="Its owner can: source.key in policy.yaml. Or take privacy.unit record.",
                travels=True,
            )
        if isinstance(privacy, RecordPrivacy) and privacy.noise == "shared" and not self.shared_noise:
            raise ActionForbidden(
                "this client's policy does not allow it to add a share of the noise only",
                remedy="Set privacy.noise: own.",
                travels=True,
            )
        if privacy != "none" and privacy.delta > self.lifetime_delta:
            raise ActionForbidden(
                f"delta {privacy.delta:g}; this client's policy states its epsilon at {self.lifetime_delta:g}",
                remedy=f"Lower privacy.delta to {self.lifetime_delta:g}.",
                travels=True,
            )
        if privacy != "none" and privacy.epsilon > self.run_epsilon:
            raise BudgetExhausted(
                f"a run of epsilon {privacy.epsilon:g}; this client's policy allows a run {self.run_epsilon:g}",
                remedy=f"Lower privacy.epsilon to {self.run_epsilon:g}, or ask the data owner to raise run_epsilon.",
                travels=True,
            )

    def permit_rows(self, wanted: int) -> None:
        """Raise TooFewRows when this client declares fewer rows than its owner or a run demands."""
        least = max(wanted, self.min_rows)
        if self.rows < least:
            raise TooFewRows(f"{self.rows:,} rows are declared, at least {least:,} are needed", travels=True)

    def permit_cohort(self, size: int) -> None:
        """Raise CohortTooSmall below this owner's minimum."""
        if size < self.min_cohort:
            raise CohortTooSmall(
                f"a sum over {size} clients; this client's policy demands {self.min_cohort}", travels=True
            )


def declared(rows: int) -> int:
    """A public size to declare for a table: its number of rows to two digits, and to tens at most.

    >>> declared(8731), declared(94), declared(14_499), declared(0)
    (8700, 90, 14000, 10)
    """
    digits = max(1, len(str(rows)) - 2)
    return max(10, round(rows, -digits))
