"""The language of the federation: names of the actions and the schema of each message.

A message is one JSON document, a frozen pydantic model that is validated strictly on both sides, and named blobs
(pipeline.language.packing).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.kinds import Frozen, codes_of
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.evaluation import EvaluationConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.statistics import StatisticsConfig
from pipeline.language.settings.training import TrainingConfig
from pipeline.language.settings.validation import ValidationConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from privacy.budget import Line


class Action(StrEnum):
    """What a client can be asked; the value is Flower's message type."""

    JOIN = "query.join"
    KEYS = "query.keys"
    INGEST = "query.ingest"
    VALIDATE = "query.validate"
    STATISTICS = "query.statistics"
    PREPROCESS = "query.preprocess"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REVEAL = "query.reveal"


ExecutionId = str
"""Id of a stage execution: sixteen hex digits. A resumed execution keeps it, so that nothing is charged twice."""

ClientName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Thirty-two hex digits: by one client with its key, where it names something in its home."""

LedgerHead = Digest
"""Keyed digest of the last row of a client's ledger."""

Purpose = Literal["statistics", "train", "evaluate"]
"""What the sums of a group are for."""

Printable = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Short text of a client that people will read."""

CodeDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _codes(fields: dict[str, Any]) -> dict[str, str]:
    return codes_of(*fields.values())


Codes = Annotated[dict[str, CodeDigest], Field(description="Digest of the code of every kind that is named.")]

BudgetLines = Annotated[
    tuple[Line, ...], Field(min_length=1, max_length=64, description="All that the run will spend, by stage.")
]

HexSignature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class AskedSpending(Frozen):
    """What a run would spend: could this client pay for all of it, begun now?"""

    privacy: Privacy
    lines: BudgetLines
    shares: AskedShares | None = None


class JoinRequest(Frozen):
    """Who are you, which data do you hold, and can you do this? Whoever lacks a class that is named says so now."""

    version: str = Field(description="Version of the coordinator.")
    contract: DataContract | None = None
    model: Model | None = None
    parameters: int = Field(0, ge=0, description="How many of the model are trained.")
    spending: AskedSpending | None = Field(None, description="Where it is asked whether a run could be paid for.")
    code: Codes = Field(default_factory=_codes)


class JoinReply(Frozen):
    name: ClientName
    version: Printable
    code: dict[Action, CodeDigest] = Field(
        description="Digest of what answers each action: part of what a cached result depends on."
    )
    public_keys: str = Field(description="X25519 and Ed25519 public keys, hex.", pattern=r"^[0-9a-f]{128}$")
    fingerprint: Digest = Field(description="Keyed digest of data source and policy: says equal or changed, no more.")
    declared: Digest = Field(description="Keyed digest of the size that its owner declares, from which plans follow.")
    source: Digest = Field(description="Keyed digest of the data source alone: whether there may be new data.")
    unaffordable: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = Field(
        "", description="Why its budget does not pay for the run that was asked about; empty: it does."
    )


class KeysRequest(Frozen):
    """Agree on the group key of an execution: first the leader makes it, then each member takes it.

    Blobs to a member: `signature`, `wrapped` and `key` (privacy.group.Offer).
    """

    execution: ExecutionId
    purpose: Purpose = Field(description="What the group's sums are for; a group has one purpose.")
    generation: int = Field(ge=1, description="Grows when a member leaves for good: the rest agrees on a new key.")
    scheme: Literal["bfv", "none"]
    masks: bool
    roster: dict[ClientName, str] = Field(description="Public keys by client, hex.")
    leader: ClientName


class KeysReply(Frozen):
    pass


class IngestRequest(Frozen):
    """Take a snapshot of the contract's columns."""

    contract: DataContract
    code: Codes = Field(default_factory=_codes)


class IngestReply(Frozen):
    snapshot: Digest = Field(description="Keyed digest of the snapshot's content.")


class ValidateRequest(Frozen):
    """Check a snapshot. What is counted follows from the contract, is noisy, and is charged once a snapshot."""

    contract: DataContract
    checks: ValidationConfig
    privacy: Privacy
    lines: BudgetLines
    snapshot: Digest
    code: Codes = Field(default_factory=_codes)


class CheckOutcome(Frozen):
    """The outcome of one check, from noisy counts. measured, error: the fraction it is about, and one deviation of
    the noise in it."""

    check: Printable
    status: Literal["ok", "warn", "fail"]
    column: Printable | None = None
    measured: float | None = Field(None, ge=0, le=1)
    error: float | None = Field(None, ge=0)


class ValidateReply(Frozen):
    outcomes: tuple[CheckOutcome, ...] = Field(
        max_length=20_000, description="Empty where a client's own answer must not depend on its data at all."
    )
    head: LedgerHead


class PreprocessRequest(Frozen):
    spec: FeatureSpec
    snapshot: Digest
    holdout: float = Field(gt=0, lt=1)
    code: Codes = Field(default_factory=_codes)


class PreprocessReply(Frozen):
    features: Digest = Field(description="Keyed digest of the preprocessed data.")


class SumRef(Frozen):
    """A sealed sum that travels as blob `sum-<round>`, and who is in it."""

    round: int = Field(ge=1)
    generation: int = Field(ge=1, description="Of the group key it is sealed under.")
    clients: tuple[ClientName, ...]
    terms: str = Field("", max_length=200, description="What else its clients agreed upon (privacy.statement).")
    absent: tuple[ClientName, ...] = Field((), description="Asked in the same attempt, but not in the sum.")

    @property
    def cohort(self) -> tuple[ClientName, ...]:
        """Everyone who was asked in the attempt."""
        return tuple(sorted({*self.clients, *self.absent}))


class Attempt(Frozen):
    """Who is asked together for one sum, under which group key. A repeated attempt has fewer clients."""

    generation: int = Field(ge=1)
    cohort: tuple[ClientName, ...]


class AskedShares(Frozen):
    """How a cohort divides noise among its clients. Each of them checks that it suffices."""

    noise_multiplier: float | None = Field(
        None, ge=0.01, le=1e6, description="At client level; else it follows from the lines of the budget."
    )
    cohort: int = Field(ge=2, description="Fewest clients in any sum.")


class StatisticsRequest(Frozen):
    """Counts of each column by outcome, in the training rows of a snapshot."""

    execution: ExecutionId
    contract: DataContract
    snapshot: Digest
    statistics: StatisticsConfig
    privacy: Privacy
    lines: BudgetLines
    shares: AskedShares | None = Field(description="Where the clients share the noise: how.")
    attempt: Attempt
    seen: LedgerHead | None = Field(description="The newest head of its ledger that this client published.")
    code: Codes = Field(default_factory=_codes)


class TrainRequest(Frozen):
    """One round. Blobs: `sum-<k>` for each sum, in order, and in the first round `initial`, float32 little-endian."""

    execution: ExecutionId
    features: Digest
    spec: FeatureSpec
    model: Model
    privacy: Privacy
    frozen: str = Field("", max_length=64, description="Digest of what of the model is not trained; empty: nothing.")
    shares: AskedShares | None = Field(description="Where the clients share the noise: how.")
    encryption: EncryptionConfig
    training: TrainingConfig
    lines: BudgetLines
    holdout: float = Field(gt=0, lt=1)
    round: int = Field(ge=1)
    attempt: Attempt
    sums: tuple[SumRef, ...] = Field(description="Sums of the rounds this client has not applied yet.")
    seen: LedgerHead | None = Field(description="The newest head of its ledger that this client published.")
    code: Codes = Field(default_factory=_codes)


class TrainReply(Frozen):
    """Blob: `sealed`, the update."""

    head: LedgerHead


class EvaluateRequest(Frozen):
    """Counts on the held-out rows. Blob: `weights`, float32 little-endian."""

    execution: ExecutionId
    features: Digest
    spec: FeatureSpec
    model: Model
    privacy: Privacy
    encryption: EncryptionConfig
    training: TrainingConfig
    shares: AskedShares | None = Field(description="Where the clients share the noise: how.")
    evaluation: EvaluationConfig
    lines: BudgetLines
    holdout: float = Field(gt=0, lt=1)
    basis: Digest = Field(description="Stands for the weights: all clients of the sum evaluate the same.")
    attempt: Attempt
    seen: LedgerHead | None = Field(description="The newest head of its ledger that this client published.")
    code: Codes = Field(default_factory=_codes)


class CountsReply(Frozen):
    """Blob: `sealed`, the counts."""

    head: LedgerHead
    noise: float = Field(ge=0, description="Deviation of the noise in each count; follows from the budget alone.")


class RevealRequest(Frozen):
    """Open the final model (`model`, after the last round) or the summed counts (`counts`). Blobs: `sum-<k>`.

    First every member is asked for the digest of what it opens; it vouches for one in the life of an execution. The
    value itself is handed over only against the signatures of a quorum on the same digest: more than half of the
    group's first roster and of those who may collude, so that no two digests of one execution ever have one.
    """

    execution: ExecutionId
    what: Literal["model", "counts"]
    sums: tuple[SumRef, ...] = Field(min_length=1)
    count: int = Field(ge=1, description="Number of counts, for `counts`.")
    certificate: dict[ClientName, HexSignature] = Field(
        description="Signatures of the digest by a quorum, hex: against them the value is sent; empty: digest only."
    )


class RevealReply(Frozen):
    """Blobs, where asked for: `value`, float32 weights or int64 counts, little-endian; `salt`, 32 bytes."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of salt and value.")
    signature: HexSignature = Field(description="Ed25519 of execution, what and digest by the client's key, hex.")
    spent: float | None = Field(
        description="Epsilon of this execution at this client, rounded up to 0.01; null: infinite."
    )
    lifetime: float | None = Field(description="Epsilon of the client's ledger after it, rounded up to 0.01.")


def reveal_text(execution: ExecutionId, what: str, digest: str) -> bytes:
    """What a client signs when it vouches for the digest of a result."""
    return f"sottovoce reveal\0{execution}\0{what}\0{digest}".encode()


def result_digest(salt: bytes, value: bytes) -> str:
    """What clients vouch for. The salt is the group's secret until the value is handed over."""
    return hashlib.sha256(salt + value).hexdigest()


def own_version() -> str:
    """The installed version of Sottovoce."""
    try:
        return version("sottovoce")
    except PackageNotFoundError:
        return "0+unknown"
