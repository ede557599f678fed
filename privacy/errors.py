"""The tree of errors every room raises from, and the exit code of each branch.

    SottovoceError (1)
    |-- ConfigError (2)         ConfigUnknownKey  KindMissing  KindUnfit  KindDiffers
    |-- DataError (3)           SourceMissing  ColumnMissing  ContractViolated  ContractRefused  TooFewRows
    |                           ForbiddenColumn  SourceChanged
    |-- PrivacyError (4)        PlanInvalid  BudgetExhausted  ReplayRefused  SumRejected  SecretExposed  ActionForbidden
    |   |                       KeyMismatch  ClientUnknown  KindNotAllowed  ClaimRefuted  PathBroken
    |   `-- LedgerError         LedgerMissing  LedgerCorrupt  LedgerRolledBack  LedgerNewer
    |-- FederationError (5)     CohortTooSmall  ProtocolError  VersionMismatch  RevealDisagreement
    |                           RoundLost  ClientFailed
    |-- EngineError (6)         GraphInvalid  StageFailed  StageTimeout  EngineUnavailable
    |-- StorageError (7)        StorageFull  AccessDenied  ArtifactMissing  ArtifactCorrupt  NotFound
    |                           StorageNewer  CatalogueUnavailable
    |-- WorkspaceBusy (8)
    `-- ServingError (9)        PortInUse  NoChampion  VersionRefused

The root lives in the lowest room because every other room may import it. An error says its cause and its
remedy. What a client raises may quote data, so only `travelling()` ever leaves the client: the code, a fixed
headline and, where the raiser marked the cause as harmless, the cause.
"""

from __future__ import annotations

import errno
import re
from typing import ClassVar


class SottovoceError(Exception):
    """Root of the tree. `code` is derived from the class name: `BudgetExhausted` -> `budget-exhausted`."""

    exit_code: ClassVar[int] = 1
    headline: ClassVar[str] = "something went wrong that has no name yet"

    def __init__(self, cause: str, *, remedy: str = "", travels: bool = False) -> None:
        """`travels`: the cause quotes no data and may leave the client that raised it."""
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.travels = travels

    @property
    def code(self) -> str:
        """The stable name a person can search for."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__.removesuffix("Error")).lower()

    def travelling(self) -> tuple[str, str]:
        """Code and the part of the message that may leave a client."""
        told = f"{self.cause.removesuffix('.')}. {self.remedy}" if self.remedy else self.cause
        return self.code, told if self.travels else self.headline

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.cause, self.remedy, self.travels))


def _rebuild(kind: type[SottovoceError], cause: str, remedy: str, travels: bool) -> SottovoceError:
    return kind(cause, remedy=remedy, travels=travels)


class ConfigError(SottovoceError):
    exit_code = 2
    headline = "a configuration or policy file is not valid"


class ConfigUnknownKey(ConfigError):
    headline = "a configuration or policy file has an unknown key"


class KindMissing(ConfigError):
    headline = "a class that the configuration names is not installed"


class KindUnfit(ConfigError):
    headline = "a class that the configuration names is of no use there"


class KindDiffers(ConfigError):
    headline = "the code of a class is not the same at client and coordinator"


class DataError(SottovoceError):
    exit_code = 3
    headline = "the data at this client cannot be used"


class SourceMissing(DataError):
    headline = "the data source of this client cannot be read"


class ColumnMissing(DataError):
    headline = "the data source of this client lacks a column of the contract"


class ContractViolated(DataError):
    headline = "the data of this client breaks the data contract"


class ContractRefused(DataError):
    headline = "the run asks for other data than the contract of this client's owner grants"


class TooFewRows(DataError):
    headline = "this client declares fewer rows than its minimum"


class ForbiddenColumn(DataError):
    headline = "the contract asks for a column that may not be used"


class SourceChanged(DataError):
    headline = "the data of this client have changed since that snapshot was taken"


class PrivacyError(SottovoceError):
    exit_code = 4
    headline = "a privacy rule of this client refused the request"


class PlanInvalid(PrivacyError):
    headline = "the privacy plan is not possible"


class ClaimRefuted(PrivacyError):
    headline = "an audit has refuted what is promised"


class PathBroken(PrivacyError):
    headline = "the training path does not do what its accounting assumes"


class BudgetExhausted(PrivacyError):
    headline = "the request would exceed this client's lifetime budget"


class ActionForbidden(PrivacyError):
    headline = "the client's policy does not allow what was asked"


class ReplayRefused(PrivacyError):
    headline = "this release was made before and is not made twice"


class SumRejected(PrivacyError):
    headline = "the encrypted sum does not verify"


class SecretExposed(PrivacyError):
    headline = "a secret of this client is readable by others"


class KeyMismatch(PrivacyError):
    headline = "a public key in the roster is not the one this client knows"


class ClientUnknown(PrivacyError):
    headline = "the roster names a client that the owner of this one does not know"


class KindNotAllowed(PrivacyError):
    headline = "the client's policy does not allow a class that the run names"


class LedgerError(PrivacyError):
    headline = "the privacy ledger of this client cannot be used"


class LedgerMissing(LedgerError):
    headline = "the privacy ledger of this client is missing"


class LedgerCorrupt(LedgerError):
    headline = "the privacy ledger of this client is damaged"


class LedgerRolledBack(LedgerError):
    headline = "the privacy ledger of this client is older than what it published"


class LedgerNewer(LedgerError):
    headline = "the privacy ledger of this client was written by a newer version"


class FederationError(SottovoceError):
    exit_code = 5
    headline = "the federation cannot go on"


class CohortTooSmall(FederationError):
    headline = "fewer clients than the minimum cohort"


class ProtocolError(FederationError):
    headline = "a message does not follow the protocol"


class VersionMismatch(FederationError):
    headline = "client and coordinator run different versions"


class RevealDisagreement(FederationError):
    headline = "clients do not agree on what was summed"


class RoundLost(FederationError):
    headline = "this round was interrupted here after it was charged; it is not trained twice"


class ClientFailed(FederationError):
    headline = "the client failed; the reason is in its own log"


class EngineError(SottovoceError):
    exit_code = 6
    headline = "the pipeline engine failed"


class GraphInvalid(EngineError):
    pass


class StageFailed(EngineError):
    pass


class StageTimeout(EngineError):
    pass


class EngineUnavailable(EngineError):
    pass


class StorageError(SottovoceError):
    exit_code = 7
    headline = "storage failed"


class StorageFull(StorageError):
    headline = "no space is left on the disk"


class AccessDenied(StorageError):
    headline = "a file of this client cannot be used"


class ArtifactMissing(StorageError):
    pass


class ArtifactCorrupt(StorageError):
    pass


class StorageNewer(StorageError):
    headline = "a store was written by a newer version"


class CatalogueUnavailable(StorageError):
    headline = "a catalogue did not take the lineage"


class NotFound(StorageError):
    headline = "there is no such thing in this workspace"


class WorkspaceBusy(SottovoceError):
    exit_code = 8
    headline = "another run is using this workspace"


class ServingError(SottovoceError):
    exit_code = 9
    headline = "the endpoint cannot serve"


class PortInUse(ServingError):
    pass


class NoChampion(ServingError):
    pass


class VersionRefused(ServingError):
    pass


def coded(code: str, cause: str, remedy: str) -> SottovoceError:
    """The error with that code, as when it was raised in this process."""
    kinds: list[type[SottovoceError]] = [SottovoceError]
    for kind in kinds:  # grows as it goes
        if kind.__name__.removesuffix("Error") and kind("").code == code:
            return kind(cause, remedy=remedy)
        kinds.extend(kind.__subclasses__())
    return SottovoceError(cause, remedy=remedy)


def named(error: BaseException) -> SottovoceError | None:
    """The named error behind `error`: itself, one it was raised from, or one for a full disk or a refused file."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SottovoceError):
            return seen
        if _is_full(seen):
            place = f" (writing {seen.filename})" if isinstance(seen, OSError) and seen.filename else ""
            return StorageFull(
                f"no space is left on the disk{place}",
                remedy="Free some space and run the same command again; what was finished is kept.",
            )
        if isinstance(seen, OSError) and seen.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and seen.filename:
            return AccessDenied(
                f"{seen.filename}: {(seen.strerror or 'permission denied').lower()}",
                remedy="Give the user who runs this command access to it, or choose another place.",
            )
        seen = seen.__cause__ or seen.__context__
    return None


def _is_full(error: BaseException) -> bool:
    """Libraries tell of a full disk by errno, or (SQLite, Arrow) only in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left on device", "database or disk is full"))
