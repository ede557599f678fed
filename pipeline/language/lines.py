"""The lines of a run's budget: what each stage that spends will release, in the order of the stages.

From them, and from nothing else, follow the plan that is printed before a run, what `sottovoce budget plan` says, what
a client affords before its first charge, and every charge itself. A client compares the line of what it is asked with
what the request asks, so that a coordinator cannot say one thing and ask another. Another stage that spends is another
function here.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.kinds import Frozen
from pipeline.language.config import Config
from pipeline.language.settings.privacy import ClientPrivacy, Privacy, RecordPrivacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.models.model import Model
from pipeline.learning.models.summing import NORM
from pipeline.learning.queries.query import Query
from privacy.budget import Line


def validation_line(privacy: Privacy, data: DataContract, share: float) -> Line | None:
    """Checks of all records. One adds one to one count of each column, to that of its outcome and to that of
    duplicates. At client level nothing that one client answers may depend on its data, so there are none."""
    if isinstance(privacy, ClientPrivacy) or share == 0:
        return None
    return Line("validation", "everyone", share=share, touched=len(data.columns) + 2)


def statistics_line(privacy: Privacy, question: Query, share: float) -> Line | None:
    """How the training records are distributed; None: nobody asks."""
    if share == 0:
        return None
    if isinstance(privacy, ClientPrivacy):
        return Line("statistics", "client")
    return Line("statistics", "training", share=share, norm=question.norm, shared=privacy_shared(privacy))


def training_line(privacy: Privacy, training: TrainingConfig, model: Model) -> Line:
    """Every round."""
    if isinstance(privacy, ClientPrivacy):
        return Line("training", "client", rounds=model.sums or training.rounds)
    if model.sums:
        return Line("training", "training", rounds=model.sums, norm=NORM, shared=privacy_shared(privacy))
    return Line(
        "training", "training", rounds=training.rounds, batch=training.expected_batch, epochs=training.local_epochs
    )


def evaluation_line(privacy: Privacy, question: Query) -> Line:
    """The task's question about the held-out records: they took no part in training, so the whole of epsilon is theirs
    but for what reads everyone."""
    if isinstance(privacy, ClientPrivacy):
        return Line("evaluation", "client")
    return Line("evaluation", "held-out", norm=question.norm, shared=privacy_shared(privacy))


def privacy_shared(privacy: Privacy) -> bool:
    """Whether what is one sum has noise that clients share, at record or subject level."""
    return isinstance(privacy, RecordPrivacy) and privacy.noise == "shared"


class Lines(Frozen):
    """All lines of a run."""

    lines: tuple[Line, ...]

    @classmethod
    def of(cls, config: Config) -> Lines:
        question = config.data.task.question(config.evaluation.bins)
        statistics = config.statistics
        made = (
            validation_line(config.privacy, config.data, config.validation.epsilon_share),
            statistics_line(config.privacy, config.data.distribution(statistics.bins), statistics.epsilon_share),
            training_line(config.privacy, config.training, config.model),
            evaluation_line(config.privacy, question),
        )
        return cls(lines=tuple(line for line in made if line))

    def narrowed(self, stage: str, asks: tuple[str, ...] = ()) -> Lines:
        """What the release of a stage depends on: its own line; and where that takes what is left, the shares of those
        that read the same records; at client level every line. A stage that does not spend: all."""
        own = next((line for line in self.lines if line.purpose == stage), None)
        if own is None:
            return self
        return Lines(
            lines=tuple(
                line
                for line in self.lines
                if line is own
                or line.reads == "client"
                or (own.share is None and line.share is not None and line.meets(own))
            )
        )

    def prices(self, privacy: Privacy) -> dict[str, str]:
        """What each stage will charge at most, in words."""
        if privacy == "none":
            return dict.fromkeys((line.purpose for line in self.lines), "NOT PRIVATE")
        budget = f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}"
        if isinstance(privacy, ClientPrivacy):
            main = max(self.lines, key=lambda line: line.rounds)
            others = [line for line in self.lines if line is not main]
            told = {line.purpose: f"{_rounds(line)} more, in {main.purpose}'s epsilon" for line in others}
            return {**told, main.purpose: f"{budget}, every client, with {_and(line.purpose for line in others)}"}
        return {
            line.purpose: f"epsilon {line.share * privacy.epsilon:g} alone, within {self._within(line)}"
            if line.share is not None
            else f"{budget}{self._with(line)}, {READ[line.reads]}"
            for line in self.lines
        }

    def _within(self, line: Line) -> str:
        rest = [other.purpose for other in self.lines if other.share is None and other.meets(line)]
        return f"that of {_and(rest)}"

    def _with(self, line: Line) -> str:
        shares = [other.purpose for other in self.lines if other.share is not None and other.meets(line)]
        return f" with {_and(shares)}" if shares else ""


READ = {
    "training": "training rows",
    "held-out": "held-out rows (disjoint)",
    "everyone": "all rows",
    "client": "all of the client",
}


def _rounds(line: Line) -> str:
    return "one round" if line.rounds == 1 else f"{line.rounds} rounds"


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
