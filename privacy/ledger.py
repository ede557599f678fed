"""The client's own budget ledger: append-only, hash-chained, fsynced, locked; one file per data source.

One JSON object a line. A row is `open`, `reserve`, `commit` or `void`. A reservation counts as spent from the
moment it is on disk, before any data is touched; `commit` says that it left, `void` that provably nothing did.
Ids are deterministic (run/purpose/round), so a replay after a restart is refused instead of charged or repeated.

Releases on disjoint populations compose in parallel, across runs too, and overlapping ones in sequence. The epsilon
of the ledger is that of its most exposed record. Client-level releases count in full: they protect each record too.

A second file, `<name>.head`, holds the last row's hash: a ledger that is behind it was truncated or restored from
a backup and is refused.

What a row means never changes: kinds and fields keep their meaning and their names, nothing is renamed or used again.
A row of another format, or one that says what this version does not know, is refused: a charge is never guessed.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from privacy.accounting import Release, epsilon_of
from privacy.errors import BudgetExhausted, LedgerCorrupt, LedgerMissing, LedgerNewer, LedgerRolledBack, ReplayRefused
from privacy.population import EVERYONE, Charge, Population, exposures

Kind = Literal["open", "reserve", "commit", "void"]

FORMAT = 1
GENESIS = "0" * 64
_RECOVERY = (
    "Do not delete it: put back the newest copy whose head matches what the coordinator last saw, or have the data "
    "owner open a new ledger with a lifetime budget reduced by everything ever spent."
)


@dataclass(frozen=True)
class Row:
    """One line of the ledger, without its hashes."""

    seq: int
    time: float
    kind: Kind
    id: str
    releases: tuple[Release, ...] = ()
    population: Population = EVERYONE

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Row:
        """Raises KeyError, TypeError or ValueError when a field is missing, unknown or out of range."""
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']}; known is {FORMAT}")
        if fields["kind"] not in get_args(Kind):
            raise ValueError(f"unknown: a row of kind {fields['kind']!r}")
        releases = tuple(Release(**release) for release in fields["releases"])
        population = Population(**fields["population"])
        return cls(fields["seq"], fields["time"], fields["kind"], fields["id"], releases, population)


@dataclass(frozen=True)
class Budget:
    """What the data owner allows in the lifetime of the source."""

    epsilon: float
    delta: float


class Ledger:
    """The ledger of one data source. Every public call re-reads and verifies the file under its lock."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.budget = budget
        self._head_path = path.with_suffix(".head")
        self._read: tuple[bytes, Sequence[Row], Sequence[str]] = (b"", (), (GENESIS,))
        """What was verified, to the last byte: what is still there as it was is not parsed again."""

    def create(self) -> None:
        """Write the opening row, once in the life of a client. Raises LedgerCorrupt if any trace of one is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() or self._head_path.exists():
            raise LedgerCorrupt(f"{self.path} exists already", remedy="A ledger is opened once and never replaced.")
        with self._locked(create=True) as file:
            self._append(file, [], "open", self.path.stem)

    def reserve(self, id: str, releases: Sequence[Release], population: Population) -> None:
        """Count `releases` as spent, durably, before the data is touched.

        Raises ReplayRefused (the id is known) or BudgetExhausted (the lifetime budget would be exceeded); in both
        cases nothing is charged.
        """
        with self._locked() as file:
            rows = self._verified(file)
            if any(row.id == id and row.kind == "reserve" for row in rows):
                raise ReplayRefused(f"{id} was reserved before", travels=True)
            self._afford(rows, [Charge(releases, population)])
            self._append(file, rows, "reserve", id, tuple(releases), population)

    def commit(self, id: str) -> None:
        """Note that the reserved release left the client. Idempotent."""
        self._settle(id, "commit")

    def void(self, id: str) -> None:
        """Take a reservation back. Only for a caller that can prove that nothing left and no data was read."""
        self._settle(id, "void")

    def has(self, id: str) -> bool:
        """Whether `id` was ever reserved."""
        return any(row.id == id and row.kind == "reserve" for row in self.rows())

    def rows(self) -> list[Row]:
        """All rows, verified."""
        with self._locked() as file:
            return self._verified(file)

    def head(self) -> str:
        """Hash of the last row. It is not for others: what is in a row could be guessed until its hash is met."""
        with self._locked() as file:
            self._verified(file)
            return self._head_path.read_text().strip()

    def follows(self, published: str, keyed: Callable[[str], str]) -> None:
        """Raise LedgerRolledBack unless `published` is what `keyed` makes of the hash of one of the rows.

        keyed: a digest under a key of this client, which is all of a hash that is ever published. A ledger that was
        restored together with its head file is sound in itself; only who saw it before can tell.
        """
        with self._locked() as file:
            self._verified(file)
            lines = os.pread(file, os.fstat(file).st_size, 0).splitlines()
        if not any(hmac.compare_digest(published, keyed(json.loads(line)["hash"])) for line in reversed(lines)):
            raise LedgerRolledBack(
                f"{self.path} lacks a row that this client published: it was deleted, or restored from a backup",
                remedy=_RECOVERY,
            )

    def spent(self, prefix: str = "", beside: Sequence[Release] = ()) -> float:
        """Epsilon at the policy's delta of the most exposed record, of all rows or those whose id starts so, and of
        what every record was exposed to `beside` them."""
        rows = [row for row in self.rows() if row.id.startswith(prefix)]
        return self._spent(_with(rows, [Charge(beside)]) if rows and beside else rows)

    def affords(self, wanted: Sequence[Charge]) -> None:
        """Raise BudgetExhausted if a whole run of `wanted` would exceed the policy."""
        self._afford(self.rows(), wanted)

    def after(self, wanted: Sequence[Charge]) -> float:
        """Lifetime epsilon after a run of `wanted`, whether or not the policy allows it."""
        return self._spent(_with(self.rows(), wanted))

    def _afford(self, rows: Sequence[Row], wanted: Sequence[Charge]) -> None:
        extended = _with(rows, wanted)
        if self._spent(extended, "rdp") <= self.budget.epsilon:
            return  # never below the PLD's value, and a hundred times cheaper
        before, after = self._spent(rows), self._spent(extended)
        if after > self.budget.epsilon:
            raise BudgetExhausted(
                f"this would bring the records of {self.path.stem} to epsilon {after:.2f}, "
                f"the policy allows {self.budget.epsilon:.2f}; spent so far {before:.2f}.",
                remedy="Lower privacy.epsilon, or ask the data owner to raise lifetime_epsilon in the policy.",
                travels=True,
            )

    def _spent(self, rows: Sequence[Row], accountant: Literal["pld", "rdp"] = "pld") -> float:
        voided = {row.id for row in rows if row.kind == "void"}
        charged = [row for row in rows if row.kind == "reserve" and row.id not in voided]
        exposed = exposures(Charge(row.releases, row.population) for row in charged)
        return max((epsilon_of(seen, self.budget.delta, accountant) for seen in exposed), default=0.0)

    def _settle(self, id: str, kind: Literal["commit", "void"]) -> None:
        with self._locked() as file:
            rows = self._verified(file)
            kinds = {row.kind for row in rows if row.id == id}
            if kind in kinds:
                return
            if "reserve" not in kinds or len(kinds) > 1:
                raise ReplayRefused(f"{id} cannot become {kind}: it is {' and '.join(sorted(kinds)) or 'unknown'}")
            self._append(file, rows, kind, id)

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[int]:
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        except FileNotFoundError:
            raise LedgerMissing(f"{self.path} is missing", remedy=_RECOVERY) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _append(
        self,
        file: int,
        rows: Sequence[Row],
        kind: Kind,
        id: str,
        releases: tuple[Release, ...] = (),
        population: Population = EVERYONE,
    ) -> None:
        previous = self._head_path.read_text().strip() if rows else GENESIS
        fields = {
            "format": FORMAT,
            "seq": len(rows),
            "time": round(time.time(), 3),
            "kind": kind,
            "id": id,
            "releases": [asdict(release) for release in releases],
            "population": asdict(population),
            "prev": previous,
        }
        digest = _digest(fields)
        line = json.dumps({**fields, "hash": digest}, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(file).st_size
        try:
            if os.write(file, line) != len(line):
                raise OSError(28, "no space left on device", str(self.path))
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
        self._write_head(digest)

    def _write_head(self, digest: str) -> None:
        temporary = self._head_path.with_suffix(".head.new")
        with open(temporary, "w") as out:
            out.write(digest + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, self._head_path)

    def _verified(self, file: int) -> list[Row]:
        content = os.pread(file, os.fstat(file).st_size, 0)
        if not content.endswith(b"\n"):
            self._mend_torn_line(file, content)
            content = content[: content.rfind(b"\n") + 1]
        before, rows, hashes = self._read
        if not content.startswith(before):
            before, rows, hashes = b"", (), (GENESIS,)
        rows, hashes = list(rows), list(hashes)
        for number, line in enumerate(content[len(before) :].splitlines(), start=len(rows) + 1):
            try:
                fields = json.loads(line)
                digest = fields.pop("hash")
                sound = fields["seq"] == len(rows) and fields["prev"] == hashes[-1] and _digest(fields) == digest
                if not sound:
                    raise ValueError("broken chain")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise LedgerCorrupt(f"{self.path}, line {number}: the hash chain is broken", remedy=_RECOVERY) from None
            try:
                rows.append(Row.parse(fields))
            except (ValueError, KeyError, TypeError) as error:
                raise LedgerNewer(
                    f"{self.path}, line {number}, was written by a newer version of Sottovoce: {error}",
                    remedy="Install that version here. This one cannot tell what the row cost, and charges nothing.",
                ) from None
            hashes.append(digest)
        if not rows or rows[0].kind != "open":
            raise LedgerCorrupt(f"{self.path} does not begin with its opening row", remedy=_RECOVERY)
        self._check_head(hashes)
        self._read = (content, tuple(rows), tuple(hashes))
        return rows

    def _mend_torn_line(self, file: int, content: bytes) -> None:
        """A crash inside the last write: the row never was on disk whole, so its release was never allowed to start."""
        whole = content.rfind(b"\n") + 1
        if whole:
            os.ftruncate(file, whole)
            os.fsync(file)

    def _check_head(self, hashes: list[str]) -> None:
        try:
            head = self._head_path.read_text().strip()
        except FileNotFoundError:
            head = GENESIS
        if head == hashes[-1]:
            return
        if head == hashes[-2]:
            self._write_head(hashes[-1])  # a crash between the row and its head
            return
        raise LedgerRolledBack(f"{self.path} does not end where its head says", remedy=_RECOVERY)


def _with(rows: Sequence[Row], wanted: Sequence[Charge]) -> list[Row]:
    return [
        *rows,
        *(
            Row(-1, 0.0, "reserve", f"wanted/{number}", tuple(releases), population)
            for number, (releases, population) in enumerate(wanted)
        ),
    ]


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
