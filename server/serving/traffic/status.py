"""What an endpoint does at this moment, for whoever moves its traffic and waits for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.kinds import Frozen
from server.serving.traffic.lineup import Lineup, Report


class Status(Frozen):
    """Written by the director after each look at the registry."""

    name: str
    number: int
    shares: dict[int, float]
    shadow: tuple[int, ...]
    held: tuple[int, ...]
    salt: str
    champion: int | None
    replicas: int
    refused: dict[int, str]
    problem: str

    @classmethod
    def of(cls, lineup: Lineup, reports: Mapping[str, Report]) -> Status:
        refused = {version: why for report in reports.values() for version, why in report.refused.items()}
        return cls(
            name=lineup.name,
            number=lineup.number,
            shares=lineup.shares,
            shadow=lineup.shadow,
            held=tuple(sorted(held.version for held in lineup.held)),
            salt=lineup.salt,
            champion=lineup.champion,
            replicas=len(reports),
            refused=refused,
            problem=lineup.problem,
        )

    def follows(self, wanted: Lineup) -> bool:
        """Whether it does all that a lineup asks for."""
        asked = Status.of(wanted, {})
        same = (self.shares, self.shadow, self.held, self.salt) == (asked.shares, asked.shadow, asked.held, asked.salt)
        return same and not self.problem

    @property
    def words(self) -> str:
        """One line."""
        shares = ", ".join(f"v{version} {share:.0%}" for version, share in self.shares.items()) or "nothing answers yet"
        shadow = f"; asked too: {', '.join(f'v{version}' for version in self.shadow)}" if self.shadow else ""
        others = {version: why for version, why in self.refused.items() if f"version {version} " not in self.problem}
        refused = "".join(f"; version {version} refused: {why}" for version, why in others.items())
        return f"{shares}{shadow}{f'; {self.problem}' if self.problem else ''}{refused}"

    def write(self, folder: Path) -> None:
        building = folder / ".status.json"
        building.write_text(self.model_dump_json())
        os.replace(building, folder / "status.json")

    @classmethod
    def read(cls, folder: Path) -> Status | None:
        try:
            return cls.model_validate_json((folder / "status.json").read_bytes())
        except (OSError, ValueError):
            return None
