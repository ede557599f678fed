"""A column of moments: between declared bounds, in a stated time zone, with the cycles they take part in."""

from __future__ import annotations

import datetime
import math
import zoneinfo
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from pipeline.learning.cells import Numbers, text_of, texts
from pipeline.learning.columns.axis import HOURS, Axis, even
from pipeline.learning.columns.bounded import CELLS, Bounded
from pipeline.learning.columns.column import Encoder, Matrix
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["hour", "weekday", "month", "yearday"]
_DAY = 24 * 60


def _minutes(moment: datetime.datetime) -> float:
    return moment.hour * 60 + moment.minute + moment.second / 60


_PHASES: dict[Part, Callable[[datetime.datetime], float]] = {
    "hour": lambda moment: _minutes(moment) / _DAY,
    "weekday": lambda moment: (moment.weekday() + _minutes(moment) / _DAY) / 7,
    "month": lambda moment: (moment.month - 1) / 12,
    "yearday": lambda moment: (moment.timetuple().tm_yday - 1) / 366,
}
"""How far a moment is in each cycle, from 0 to 1."""


class Time(Bounded):
    """A moment, scaled to [0, 1] between its bounds, with a flag for unknown ones and the cycles asked for."""

    kind: Literal["time"] = Field(description="A date or a time, as ISO 8601 writes it.")
    earliest: datetime.datetime = Field(description="Earlier moments are clipped and warned about.")
    latest: datetime.datetime = Field(description="Later moments are clipped and warned about.")
    zone: str = Field(description="Time zone of moments that say none, and of their hours and days; such as UTC.")
    parts: tuple[Part, ...] = Field((), description="Cycles that matter: each becomes a point on a circle.")
    example: datetime.datetime | None = Field(None, description="A value for documentation and the first prediction.")

    dtype: ClassVar[Literal["str"]] = "str"

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {zone!r}; it is named as in Europe/Zurich, or UTC") from None
        return zone

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self._bounds[0] < self._bounds[1]:
            raise ValueError(f"expected earliest < latest, got {self.earliest} and {self.latest}")
        if len(set(self.parts)) != len(self.parts):
            raise ValueError("each part once")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, *self._bounds, self.zone, sorted(self.parts)]

    @property
    def width(self) -> int:
        return 2 + 2 * len(self.parts)

    def axes(self, fine: int) -> tuple[Axis, ...]:
        """The moment, and each cycle."""

        def told(shares: Floats) -> list[str]:
            low, high = self._bounds
            moments = [datetime.datetime.fromtimestamp(low + (high - low) * share, self._place) for share in shares]
            return [moment.isoformat(timespec="minutes") for moment in moments]

        turns = (*(f"{number}/{HOURS} of it" for number in range(HOURS)), "(unknown)")
        cycles = [Axis("turn", part, turns, 2 + 2 * place) for place, part in enumerate(sorted(self.parts))]
        return (even("", fine, told, "(unknown)"), *cycles)

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        return texts(values)

    def encoded(self, values: pd.Series) -> Matrix:
        """The scaled moment, 0 when it is unknown; whether it is; and for each part sine and cosine, scaled to [0, 1]:
        of an unknown moment the middle of the circle."""
        return self._features([self._moment(text) for text in texts(values)])

    def encoder(self) -> Encoder:
        def encode(value: str, into: Matrix) -> None:
            into[:] = self._features([self._moment(text_of(value))])[0]

        return encode

    def _features(self, moments: list[datetime.datetime | None]) -> Matrix:
        unknown = np.array([moment is None for moment in moments], dtype=np.float64)
        columns = [np.clip(np.nan_to_num(self._scaled(moments)), 0.0, 1.0), unknown]
        for part in sorted(self.parts):
            phase = _PHASES[part]
            angle = np.array([math.nan if moment is None else 2 * math.pi * phase(moment) for moment in moments])
            columns += [np.nan_to_num((turn(angle) + 1) / 2, nan=0.5) for turn in (np.sin, np.cos)]
        return np.stack(columns, axis=1).astype(np.float32)

    def counted(self, values: pd.Series) -> Integers:
        return self.binned(values, CELLS)

    def binned(self, values: pd.Series, fine: int) -> Integers:
        said = texts(values)
        scaled = self._scaled([self._moment(text) for text in said])
        inside = (scaled >= 0) & (scaled <= 1)
        cell = np.minimum((np.where(inside, scaled, 0.0) * fine).astype(np.int64), fine - 1)
        return np.where(said == "", fine + 1, np.where(inside, cell, fine)).astype(np.int64)

    def bin_names(self, fine: int) -> list[str]:
        low, high = self._bounds
        starts = [low + (high - low) * number / fine for number in range(fine)]
        told = [datetime.datetime.fromtimestamp(start, self._place).isoformat(timespec="minutes") for start in starts]
        return [*(f"from {start}" for start in told), "(out of bounds)", "(missing)"]

    def accepted(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or self._moment(value) is None:
            raise ValueError("expected a time as ISO 8601 writes it, or null")
        return value

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "format": "date-time"}

    @property
    def usual(self) -> str:
        return (self.earliest if self.example is None else self.example).isoformat()

    @cached_property
    def _place(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.zone)

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        """Seconds since 1970."""
        return self._seconds(self._here(self.earliest)), self._seconds(self._here(self.latest))

    def _here(self, moment: datetime.datetime) -> datetime.datetime:
        return moment.replace(tzinfo=self._place) if moment.tzinfo is None else moment.astimezone(self._place)

    def _moment(self, text: str) -> datetime.datetime | None:
        """In the zone; None: it is none, or out of the calendar."""
        try:
            moment = self._here(datetime.datetime.fromisoformat(text))
            self._seconds(moment)
        except (ValueError, OverflowError):
            return None
        return moment

    def _scaled(self, moments: list[datetime.datetime | None]) -> Numbers:
        """0 at the earliest, 1 at the latest; NaN where there is none."""
        low, high = self._bounds
        seconds = [math.nan if moment is None else self._seconds(moment) for moment in moments]
        return (np.array(seconds, dtype=np.float64) - low) / (high - low)

    @staticmethod
    def _seconds(moment: datetime.datetime) -> float:
        return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
