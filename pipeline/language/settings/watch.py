"""When the pipeline runs by itself, and how a new version earns its place."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.kinds import Frozen


class RampConfig(Frozen):
    """How a challenger earns traffic, and what costs it its place."""

    shares: tuple[float, ...] = Field(
        (0.1, 0.5), min_length=1, max_length=20, description="Of the subjects, one after the other."
    )
    subjects: int = Field(
        100, ge=1, description="Outcomes of its own subjects after which a challenger that did no harm gets the next."
    )
    deadline_hours: float = Field(
        336.0, gt=0, description="A challenger that was served so long and has not shown that it is better is dropped."
    )
    settle_hours: float = Field(
        0.0,
        ge=0,
        description="How long after a prediction its outcome is known whatever it is; younger ones do not count. Set "
        "it where one outcome is known sooner than another, else those that come first stand for all.",
    )
    failed: float = Field(0.01, ge=0, le=1, description="Most of its questions that it may break on.")
    slower: float = Field(3.0, gt=1, description="How many times as long as the champion it may take for a row.")

    @field_validator("shares")
    @classmethod
    def _rising(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share < 1 for share in shares) or list(shares) != sorted(set(shares)):
            raise ValueError("expected shares that rise, each above 0 and below 1")
        return shares


class WatchConfig(Frozen):
    """When `sottovoce watch` runs the pipeline anew. The budget is asked before each run."""

    look_seconds: float = Field(60.0, gt=0, description="Between two looks at what is cheap to see.")
    every_hours: float | None = Field(None, gt=0, description="Run so often, whatever else; null: not by the clock.")
    sources_hours: float | None = Field(
        24.0, gt=0, description="How often clients are asked whether their data changed; null: never."
    )
    decay: float | None = Field(
        0.02,
        ge=0,
        description="Run when the champion's headline on outcomes is so much worse than it was; null: never.",
    )
    drift: float | None = Field(
        0.25,
        gt=0,
        description="Run when the inputs of a column moved so far from the training data's, as a population stability "
        "index, where statistics were paid for; null: never.",
    )
    rows: int = Field(1000, ge=100, description="Rows that the champion must have been asked about lately, to tell.")
    outcomes: int = Field(
        500, ge=50, le=100_000, description="How many of the latest outcomes are looked at, and needed to tell."
    )
    rest_hours: float = Field(24.0, ge=0, description="Least time between two runs.")
    budget_hours: float = Field(
        24.0, gt=0, description="How long after clients could not pay they are asked again, for the same configuration."
    )
    ramp: RampConfig = Field(default_factory=RampConfig, description="How a challenger earns its place.")
