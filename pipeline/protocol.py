"""The language of the federation: names of the actions and the schema of each message.

A message is one JSON document (a frozen pydantic model, validated strictly on both sides) and named binary blobs. In
Flower's terms: a ConfigRecord with the document and the small blobs, and an ArrayRecord of uint8 arrays for the large
ones, which Flower sends in chunks. No pickle anywhere; arrays are raw little-endian bytes whose length the receiver
knows beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import BaseModel, Field, ValidationError

from pipeline.config import (
    EncryptionConfig,
    EvaluationConfig,
    ModelConfig,
    Privacy,
    TrainingConfig,
    ValidationConfig,
)
from pipeline.contract import DataContract, Frozen
from pipeline.features import FeatureSpec
from privacy.errors import ProtocolError

MAX_JSON = 4_000_000
MAX_BLOB = 512_000_000
INLINE = 65_536
"""Bytes up to which a blob travels beside the document. An array of its own is two or more objects of Flower's, each a
request at every hop; above this a grid that shares arrays between messages saves more than that costs."""


class Action(StrEnum):
    """What a client can be asked; the value is Flower's message type."""

    JOIN = "query.join"
    KEYS = "query.keys"
    INGEST = "query.ingest"
    VALIDATE = "query.validate"
    PREPROCESS = "query.preprocess"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REVEAL = "query.reveal"


Execution = str
"""Id of a stage execution: sixteen hex digits. A resumed execution keeps it, so that nothing is charged twice."""

ClientName = str

LedgerHead = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Hash of the last row of a client's ledger."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""Thirty-two hex digits: by one client with its key, where it names a folder of its home."""

HexSignature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class JoinRequest(Frozen):
    """Who are you, and which data do you hold?"""

    version: str = Field(description="Version of the coordinator.")


class JoinReply(Frozen):
    name: ClientName = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    version: str
    code: str = Field(description="Digest of the client's code: part of what a cached result depends on.")
    public_keys: str = Field(description="X25519 and Ed25519 public keys, hex.", pattern=r"^[0-9a-f]{128}$")
    fingerprint: str = Field(description="Keyed digest of the data source; says equal or changed, nothing else.")


class KeysRequest(Frozen):
    """Agree on the group key of an execution: first the leader makes it, then each member takes it.

    Blobs to a member: `signature`, `wrapped` and `key` (privacy.group.Offer).
    """

    execution: Execution
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


class IngestReply(Frozen):
    snapshot: Digest = Field(description="Keyed digest of the snapshot's content.")


class ValidateRequest(Frozen):
    contract: DataContract
    checks: ValidationConfig
    snapshot: Digest


class Outcome(Frozen):
    """The outcome of one check: no numbers, because numbers are statistics of the data."""

    check: str
    status: Literal["ok", "warn", "fail"]
    column: str | None = None


class ValidateReply(Frozen):
    outcomes: tuple[Outcome, ...]


class PreprocessRequest(Frozen):
    spec: FeatureSpec
    snapshot: Digest
    holdout: float


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


class Shares(Frozen):
    """How a cohort divides the noise of client-level privacy. Each client checks that it suffices."""

    noise_multiplier: float = Field(ge=0.01, le=1e6)
    cohort: int = Field(ge=2, description="Fewest clients in any sum.")


class TrainRequest(Frozen):
    """One round. Blobs: `sum-<k>` for each sum, in order, and in the first round `initial`, float32 little-endian."""

    execution: Execution
    features: Digest
    spec: FeatureSpec
    model: ModelConfig
    privacy: Privacy
    shares: Shares | None = Field(description="At client level: the cohort's noise.")
    evaluation_privacy: bool = Field(description="Whether evaluation on held-out rows will be charged too.")
    encryption: EncryptionConfig
    training: TrainingConfig
    holdout: float
    round: int = Field(ge=1)
    attempt: Attempt
    sums: tuple[SumRef, ...] = Field(description="Sums of the rounds this client has not applied yet.")
    seen: LedgerHead | None = Field(description="The newest head of its ledger that this client published.")


class TrainReply(Frozen):
    """Blob: `sealed`, the update."""

    head: LedgerHead


class EvaluateRequest(Frozen):
    """Counts on the held-out rows. Blob: `weights`, float32 little-endian."""

    execution: Execution
    features: Digest
    spec: FeatureSpec
    model: ModelConfig
    privacy: Privacy
    encryption: EncryptionConfig
    training: TrainingConfig
    shares: Shares | None = Field(description="At client level: the cohort's noise.")
    evaluation: EvaluationConfig
    holdout: float
    basis: Digest = Field(description="Stands for the weights: all clients of the sum evaluate the same.")
    attempt: Attempt
    seen: LedgerHead | None = Field(description="The newest head of its ledger that this client published.")


class EvaluateReply(Frozen):
    """Blob: `sealed`, the counts."""

    head: LedgerHead
    noise: float = Field(ge=0, description="Deviation of the noise in each count; follows from the budget alone.")


class RevealRequest(Frozen):
    """Open the final model (`model`, after the last round) or the summed counts (`counts`). Blobs: `sum-<k>`.

    First every member is asked for the digest of what it opens. The value itself is handed over only against the
    signatures of a quorum on the same digest.
    """

    execution: Execution
    what: Literal["model", "counts"]
    sums: tuple[SumRef, ...] = Field(min_length=1)
    bound: float = Field(gt=0, description="Clip of each coordinate of an update, for `model`.")
    count: int = Field(ge=1, description="Number of counts, for `counts`.")
    certificate: dict[ClientName, HexSignature] = Field(
        description="Signatures of the digest by a quorum, hex: against them the value is sent; empty: digest only."
    )


class RevealReply(Frozen):
    """Blob, where asked for: `value`: float32 weights or int64 counts, little-endian."""

    digest: str
    signature: HexSignature = Field(description="Ed25519 of execution, what and digest by the client's key, hex.")
    spent: float | None = Field(
        description="Epsilon of this execution at this client, rounded up to 0.01; null: infinite."
    )
    lifetime: float | None = Field(description="Epsilon of the client's ledger after it, rounded up to 0.01.")


def reveal_text(execution: Execution, what: str, digest: str) -> bytes:
    """What a client signs when it vouches for the digest of a result."""
    return f"sottovoce reveal\0{execution}\0{what}\0{digest}".encode()


Blobs = Mapping[str, bytes]
Message = TypeVar("Message", bound=BaseModel)


def pack(message: BaseModel, blobs: Blobs | None = None) -> RecordDict:
    """A message as Flower records."""
    record = RecordDict({"message": pack_document(message.model_dump_json(), blobs or {})})
    if large := large_blobs(blobs or {}):
        record["blobs"] = pack_arrays(large)
    return record


def pack_document(text: str, blobs: Blobs) -> ConfigRecord:
    """The document, and those of `blobs` that are small."""
    return ConfigRecord({"json": text, **{name: blob for name, blob in blobs.items() if len(blob) <= INLINE}})


def large_blobs(blobs: Blobs) -> dict[str, bytes]:
    """Those that travel as arrays."""
    return {name: blob for name, blob in blobs.items() if len(blob) > INLINE}


def pack_arrays(blobs: Blobs) -> ArrayRecord:
    return ArrayRecord({name: Array(np.frombuffer(blob, dtype=np.uint8)) for name, blob in blobs.items()})


def unpack(kind: type[Message], record: RecordDict) -> tuple[Message, dict[str, bytes]]:
    """Flower records as a message of `kind` and its blobs. Raises ProtocolError for anything unexpected."""
    try:
        fields = dict(record.config_records["message"])
        text = fields.pop("json")
        if not isinstance(text, str) or len(text) > MAX_JSON:
            raise ValueError("the document is too long")
        message = kind.model_validate_json(text)
        arrays = record.array_records.get("blobs", ArrayRecord())
        if set(fields) & set(arrays):
            raise ValueError("a blob comes twice")
        blobs = {name: _unpack_blob(blob) for name, blob in (*fields.items(), *arrays.items())}
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
        raise ProtocolError(f"{kind.__name__}: field {where or 'document'} is not valid") from None
    except (KeyError, ValueError, TypeError, EOFError):
        raise ProtocolError(f"{kind.__name__}: the message is malformed") from None
    return message, blobs


def _unpack_blob(blob: object) -> bytes:
    content = blob.data if isinstance(blob, Array) else blob
    if not isinstance(content, bytes) or len(content) > MAX_BLOB:
        raise ValueError("not a blob, or too long")
    if not isinstance(blob, Array):
        return content
    array = blob.numpy()
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError("not a blob")
    return array.tobytes()


def weights_from(blob: bytes, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Exactly `count` finite float32. Raises ProtocolError."""
    if len(blob) != 4 * count:
        raise ProtocolError(f"expected {count} weights, got {len(blob)} bytes", travels=True)
    weights = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise ProtocolError("the weights are not finite", travels=True)
    return weights


def own_version() -> str:
    """The installed version of Sottovoce."""
    try:
        return version("sottovoce")
    except PackageNotFoundError:
        return "0+unknown"
