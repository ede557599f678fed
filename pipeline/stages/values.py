"""What stages hand to one another: frozen values, stored as JSON artifacts. Large arrays are artifacts of their own,
named here by digest."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from pipeline.kinds import Frozen
from pipeline.language.protocol import Action, CheckOutcome, ClientName, CodeDigest
from pipeline.learning.features import FeatureSpec
from pipeline.learning.queries.query import Measured, Query
from pipeline.learning.queries.statistics import Statistics
from privacy.budget import Line
from privacy.plan import Unit


class Design(Frozen):
    """A model that can be trained and served."""

    parameters: int = Field(description="How many are trained.")
    frozen: str = Field(description="Digest of what of it is not trained; empty: nothing.")


class Member(Frozen):
    """A client that joined."""

    public_keys: str = Field(description="X25519 and Ed25519, hex.")
    fingerprint: str = Field(description="Keyed digest of its data source and policy.")
    declared: str = Field(description="Keyed digest of the size that its owner declares.")
    code: dict[Action, CodeDigest] = Field(description="Digest of what answers each action there.")


class Cohort(Frozen):
    members: dict[ClientName, Member]

    def narrowed(self, stage: str, asks: tuple[str, ...]) -> Cohort:
        """What a stage that asks these actions, and no other, can see of it: the data source and the policy only where
        it takes a snapshot. What comes after depends on what that has become, not on a policy that still permits it."""
        return Cohort(
            members={
                name: member.model_copy(
                    update={
                        "code": {a: d for a, d in member.code.items() if a in asks},
                        "fingerprint": member.fingerprint if Action.INGEST in asks else "",
                    }
                )
                for name, member in self.members.items()
            }
        )

    @property
    def public_keys(self) -> dict[ClientName, str]:
        """X25519 and Ed25519 of every member, hex."""
        return {name: member.public_keys for name, member in self.members.items()}


class Snapshots(Frozen):
    """Keyed digest of each client's snapshot."""

    digests: dict[ClientName, str]


class ValidationReport(Frozen):
    """Outcomes of every client's checks; `passed` goes on."""

    outcomes: dict[ClientName, tuple[CheckOutcome, ...]]
    passed: dict[ClientName, str] = Field(description="Snapshots of the clients without a FAIL.")


class StatisticsReport(Frozen):
    """How the columns are distributed over the training rows of all clients together; empty where nobody asked."""

    clients: tuple[ClientName, ...] = ()
    question: Statistics | None = Field(None, description="What was counted.")
    counts: tuple[int, ...] = Field((), description="Summed, possibly noisy numbers, as the question has them.")
    noise: float = Field(0.0, description="Deviation of the noise in each.")
    spent: dict[ClientName, float | None] = Field(default_factory=dict)
    lifetime: dict[ClientName, float | None] = Field(
        default_factory=dict, description="Epsilon of each client's ledger afterwards."
    )

    def fitted(self, spec: FeatureSpec) -> FeatureSpec:
        """The spec with what its columns waited for: declarations stay what they are."""
        if self.question is None:
            return spec
        found = self.question.fitted(np.array(self.counts, dtype=np.int64))
        columns = {name: found[name] if column.unfitted else column for name, column in spec.columns.items()}
        return spec.model_copy(update={"columns": columns})

    def measured(self) -> dict[str, Measured]:
        """What follows from the counts, each with its error."""
        if self.question is None:
            return {}
        return self.question.read(np.array(self.counts, dtype=np.int64), self.noise)


class FeatureSet(Frozen):
    """The preprocessing spec, and the keyed digest of each client's features."""

    spec: FeatureSpec
    digests: dict[ClientName, str]


class TrainedModel(Frozen):
    weights: str = Field(description="Artifact: all weights, float32 little-endian, in the layout of the model.")
    parameters: int
    rounds: dict[int, tuple[ClientName, ...]] = Field(description="Who is in each round's sum; a lost round is empty.")
    spent: dict[ClientName, float | None] = Field(description="Epsilon of the training, at most; null: infinite.")
    salt: str = Field(description="What stands before the weights in the digest that clients signed, hex.")
    attested: dict[ClientName, str] = Field(
        description="Each client's signature of the digest of salt and weights, hex."
    )
    unconfirmed: tuple[ClientName, ...] = Field((), description="Clients that did not answer at the reveal.")


class EvaluationReport(Frozen):
    """Metrics from the summed counts of the held-out rows."""

    clients: tuple[ClientName, ...]
    question: Query = Field(description="What was counted.")
    counts: tuple[int, ...] = Field(description="Summed, possibly noisy numbers, as the question has them.")
    noise: float = Field(description="Deviation of the noise in each.")
    metrics: dict[str, float]
    errors: dict[str, float] = Field(description="One standard error of each metric: sampling and privacy noise.")
    spent: dict[ClientName, float | None]
    lifetime: dict[ClientName, float | None] = Field(description="Epsilon of each client's ledger afterwards.")


class Trial(Frozen):
    """Settings that were tried."""

    number: int
    state: Literal["complete", "pruned", "failed"]
    values: dict[str, Any] = Field(description="By the path of each setting; none: as they are.")
    score: float | None = Field(description="The headline on rows that were held out.")
    error: float | None = Field(description="One standard error of it.")
    curve: tuple[float, ...] = Field((), description="The same after each round.")


class TuningReport(Frozen):
    """A search among settings, on rows that are nobody's."""

    on: Literal["synthetic", "public"]
    metric: str
    rows: int
    trials: tuple[Trial, ...]
    best: int = Field(description="Number of the trial that won; 0: the settings as they are.")

    @property
    def changes(self) -> dict[str, Any]:
        """What the winner changes."""
        return self.trials[self.best].values

    @property
    def text(self) -> str:
        """One line of it."""
        won, first = self.trials[self.best], self.trials[0]
        told = ", ".join(f"{path} {value:.4g}" if isinstance(value, float) else f"{path} {value}"
                         for path, value in won.values.items())  # fmt: skip
        before = "did not come to an end" if first.score is None else f"{first.score:.4f}"
        reached = f"reach {before}" if first.score is not None else before
        return (
            f"{told or 'the settings as they are'}: {self.metric} {won.score:.4f} +- {won.error or 0:.2g} on {self.on} "
            f"rows, where the settings as they are {reached}"
        )


class Guessed(Frozen):
    """One guesser about canaries."""

    canaries: int
    guesses: int = Field(description="How many were made: decided before anything was seen.")
    right: int
    shown: float = Field(description="The true epsilon is at least so large, with the confidence of the audit.")


class MembershipAttack(Frozen):
    """How well the likelihood ratio attack tells which records a replica was trained on."""

    shadows: int
    records: int
    auc: float = Field(description="Area under the attacker's ROC curve; 0.5 by chance.")
    auc_error: float = Field(description="One standard error.")
    found: float = Field(description="Of the members, at a false positive rate of 1 %.")
    found_error: float


class AuditReport(Frozen):
    """What was claimed, and what the attacks on a replica of the job have shown."""

    unit: Unit | None = Field(None, description="What is protected; null: no audit was asked for.")
    claim: float | None = Field(None, description="Epsilon that is claimed of what was attacked; null: none is.")
    delta: float = 0.0
    releases: str = Field("", description="What was attacked.")
    plan: str = Field("", description="How the replica was trained.")
    confidence: float = 0.0
    guesses: tuple[Guessed, ...] = ()
    ceiling: float | None = Field(None, description="What so many canaries can show at most.")
    membership: MembershipAttack | None = None

    @property
    def shown(self) -> float:
        """The largest epsilon that was shown."""
        return max((one.shown for one in self.guesses), default=0.0)

    @property
    def refuted(self) -> bool:
        return self.claim is not None and self.shown > self.claim

    @property
    def verdict(self) -> str:
        if self.unit is None:
            return "NOT AUDITED"
        if self.claim is None:
            return "NOTHING IS CLAIMED"
        return "REFUTED" if self.refuted else "NOT REFUTED"

    @property
    def text(self) -> str:
        """One line of it."""
        if self.claim is None:
            return self.verdict
        sure = f"{100 * self.confidence:g} % confidence"
        told = f"epsilon {self.claim:.2f} of {self.releases} is claimed, {self.shown:.2f} was shown ({sure}"
        limit = f"; {self.ceiling:.1f} is the most that could be)" if self.ceiling is not None else ")"
        few = self.ceiling is not None and self.ceiling <= self.claim
        return f"{self.verdict}: {told}{limit}{': too few canaries to refute it' if few else ''}"


class Verdict(Frozen):
    """Whether a model may become champion."""

    blessed: bool
    reasons: tuple[str, ...] = Field(description="Why not; empty when blessed.")
    champion: int | None = Field(description="The version it was compared with.")
    champion_score: float | None = Field(description="Of the champion, in the headline metric.")


class PrivacyStatement(Frozen):
    """What is promised to every record or client, in the terms of the ledger."""

    unit: Unit
    adjacency: str = Field(description="Between which data sets epsilon holds.")
    epsilon: float | None = Field(description="Of this run, at every client, at most; null: no guarantee.")
    delta: float | None
    clipping_norm: float | None
    aggregation: Literal["bfv", "none"]
    lines: tuple[Line, ...] = Field((), description="What epsilon was spent on, by stage.")
    text: str


class ModelVersion(Frozen):
    """An immutable version in the registry."""

    name: str
    version: int
    folder: str = Field(description="Where its files are.")
    metrics: dict[str, float]
    privacy: PrivacyStatement


class Deployment(Frozen):
    """The version that the alias `champion` points to after this run."""

    name: str
    version: int
    promoted: bool
    challenger: int | None = Field(None, description="The version that has to earn its place.")
