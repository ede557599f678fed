"""The search for settings that make the loss smaller, without anybody's budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.kinds import Frozen


class Space(Frozen):
    """Where a setting is searched: between two numbers, or among some values."""

    low: int | float | None = Field(
        None, allow_inf_nan=False, description="Least; a whole number, where both ends are."
    )
    high: int | float | None = Field(None, allow_inf_nan=False, description="Greatest.")
    log: bool = Field(False, description="Whether equal factors, not equal steps, are equally far apart.")
    choices: tuple[int | float | bool | str | tuple[int, ...], ...] = Field(
        (), description="Instead of numbers the values themselves, such as [[32], [64, 32]]."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("expected either choices, or low and high")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices: an empty space holds nothing to try")
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low above 0 for log, got {self.low}")
        return self

    @property
    def ends(self) -> list[Any]:
        """What has to be permitted: then all between is."""
        return list(self.choices) if self.choices else [self.low, self.high]


SEARCHED = ("training.", "model.", "privacy.clipping_norm")
"""Settings that may be searched begin so. What the budget is made of, and what the clients' data becomes, may not."""


class TuningConfig(Frozen):
    """Settings that are tried before training, on rows that are nobody's: from a public table, or drawn from the
    statistics that the run has paid for. It costs no budget."""

    space: dict[str, Space] = Field(
        default_factory=dict, description="What is searched, by the path of the setting; empty: nothing."
    )
    on: Literal["synthetic", "public"] = Field(
        "synthetic",
        description="Rows that each trial learns: drawn from the statistics of the run (statistics.epsilon_share), or "
        "of a public table.",
    )
    table: Path | None = Field(None, description="The public table: CSV or Parquet, with the columns of the contract.")
    trials: int = Field(20, ge=1, le=10_000, description="Settings that are tried.")
    rounds: int | None = Field(None, ge=1, description="Rounds of each trial; null: as many as the run has.")
    clients: int = Field(5, ge=1, le=1000, description="Into how many parts the rows are divided.")
    rows: int = Field(10_000, ge=100, description="Rows that a client declares, which its noise follows from.")
    drawn: int = Field(20_000, ge=200, le=10_000_000, description="Synthetic rows that are drawn.")
    seed: int = Field(0, ge=0, description="Of what is tried and how rows are divided; never of noise.")

    @field_validator("space")
    @classmethod
    def _permitted(cls, space: dict[str, Space]) -> dict[str, Space]:
        for path in space:
            if not path.startswith(SEARCHED) or path in ("training.seed", "model.kind"):
                raise ValueError(
                    f"{path} cannot be searched: it is part of what the budget or the data is made of; what can be "
                    f"begins with {', '.join(SEARCHED)}"
                )
        return space

    @model_validator(mode="after")
    def _table(self) -> Self:
        if self.space and self.on == "public" and self.table is None:
            raise ValueError("on: public needs tuning.table")
        return self
