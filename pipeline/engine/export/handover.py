"""What another orchestrator is told: which command runs a stage, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from privacy.errors import ConfigError

FINAL = (2, 3, 4)
"""Exit codes that a second try cannot mend: configuration, data, privacy or budget."""
RETRIED = (1, 5, 6, 7, 8, 130)
"""Those that it can: unexpected, federation, engine, storage, a workspace that is busy, interrupted."""
RETRIES = 3
BACKOFF = 30
"""Seconds before the first of them; each waits twice as long as the one before."""


@dataclass(frozen=True)
class Handover:
    """One lifecycle as somebody else's graph.

    name: the model's. program: the words that start this program. verb: `run` or `simulate`. config: path of the
    configuration where the tasks run. place: path of the coordinator's home or of the workspace there. digest: of the
    configuration's settings: a task whose file says something else is refused. stages: in the order of the graph; one
    waits for the other, because a workspace is for one process at a time. hours: what one stage may take.
    """

    name: str
    program: Sequence[str]
    verb: str
    config: PurePath
    place: PurePath
    digest: str
    stages: Sequence[str]
    hours: float

    @property
    def option(self) -> str:
        """That names the place."""
        return "--home" if self.verb == "run" else "--workspace"

    @property
    def words(self) -> list[str]:
        """The command of every task, but for the run, the stage and what is changed by `--set`."""
        place = [self.option, str(self.place), "--expect", self.digest, "--json"]
        return [*self.program, self.verb, str(self.config), *place]

    @property
    def label(self) -> str:
        """The name as every one of them accepts it: small letters, digits and hyphens, a letter first."""
        made = re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return made if made[:1].isalpha() else f"model-{made}"


def checked_hours(hours: float) -> float:
    """Raises ConfigError unless it is a time."""
    if not 0 < hours <= 24 * 366:
        raise ConfigError(f"--hours {hours:g}: a stage may take more than none, and at most a year")
    return hours
