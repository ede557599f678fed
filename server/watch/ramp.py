"""A challenger earns traffic: what is to be done next, from what is known now. Nothing here looks or moves anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.language.settings.watch import RampConfig
from server.evidence.experiments import Comparison

FEW = 50
"""Questions below which nothing is made of how long a version takes."""


class Health(Frozen):
    """Of one version, over all endpoints: questions for any version that it answered or broke on, and seconds a row."""

    questions: int = 0
    failed: int = 0
    seconds: float = 0.0
    refused: str = ""

    @property
    def mean(self) -> float:
        return self.seconds / max(self.questions - self.failed, 1)

    def since(self, before: Health) -> Health:
        """What came after; all of it where endpoints began anew in between."""
        if before.questions > self.questions:
            return self
        return Health(
            questions=self.questions - before.questions,
            failed=max(0, self.failed - before.failed),
            seconds=max(0.0, self.seconds - before.seconds),
            refused=self.refused,
        )


class Ramp(Frozen):
    """Of one challenger."""

    challenger: int
    champion: int
    experiment: str = Field(description="Name of the comparison.")
    salt: str
    began: float
    step: int = Field(0, description="Of the shares, from 0.")
    given: bool = Field(False, description="Whether traffic has been as this step has it: else it is yet to be moved.")
    seen: float = Field(0.0, description="When it was looked at last.")
    served: float = Field(0.0, description="Seconds for which an endpoint has served it.")
    promoted: str = Field("", description="Why it is being promoted; empty: it is not.")
    before: Health = Field(default_factory=Health, description="Of the challenger, when it began.")
    champion_before: Health = Field(default_factory=Health, description="Of the champion, then.")


@dataclass(frozen=True)
class Move:
    """What to do, and why."""

    what: Literal["wait", "begin", "grow", "promote", "drop", "leave"]
    why: str


def next_move(
    ramp: Ramp, config: RampConfig, comparison: Comparison | None, challenger: Health, champion: Health
) -> Move:
    """Harm first, evidence then, and traffic last."""
    if harm := _harm(ramp, config, challenger, champion):
        return Move("drop", harm)
    counted = comparison.subjects.get(ramp.challenger, 0) if comparison else 0
    if comparison:
        if comparison.verdict == "promote":
            return Move("promote", comparison.why)
        if comparison.verdict in ("keep", "broken"):
            return Move("drop", comparison.why)
    if ramp.served > config.deadline_hours * 3600:
        shown = comparison.why if comparison else "no outcome has come"
        return Move("drop", f"not shown to be better within {config.deadline_hours:g} hours: {shown}")
    share, wanted = config.shares[min(ramp.step, len(config.shares) - 1)], config.subjects * (ramp.step + 1)
    if ramp.step + 1 < len(config.shares) and counted >= wanted:
        return Move(
            "grow", f"{counted} outcomes of its own and no harm: {config.shares[ramp.step + 1]:.0%} from now on"
        )
    known = comparison.why if comparison else "no outcome has come yet"
    return Move("wait", f"v{ramp.challenger} has {share:.0%}, {counted} outcomes of its own; {known}")


def _harm(ramp: Ramp, config: RampConfig, challenger: Health, champion: Health) -> str:
    version = f"v{ramp.challenger}"
    if challenger.refused:
        return f"{version} is refused: {challenger.refused}"
    if challenger.failed >= 3 and challenger.failed > config.failed * challenger.questions:
        return f"{version} broke on {challenger.failed} of {challenger.questions} questions"
    enough = min(challenger.questions, champion.questions) >= FEW
    if enough and challenger.mean > config.slower * champion.mean:
        return f"{version} takes {challenger.mean * 1000:.1f} ms for a row, the champion {champion.mean * 1000:.1f}"
    return ""


def health(samples: Sequence[Sequence[object]], version: int) -> Health:
    """From what replicas measured (server.serving.gateway.measures): each sample a name, labels and a value."""
    found = {"sottovoce_version_failed_total": 0.0, "sottovoce_version_seconds_count": 0.0}
    found["sottovoce_version_seconds_sum"] = 0.0
    for name, labels, value in samples:
        if name in found and isinstance(labels, dict) and labels.get("version") == str(version):
            found[str(name)] += float(str(value))
    failed = int(found["sottovoce_version_failed_total"])
    answered = int(found["sottovoce_version_seconds_count"])
    return Health(questions=answered + failed, failed=failed, seconds=found["sottovoce_version_seconds_sum"])
