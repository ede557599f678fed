"""What became of predictions: a small database of outcomes, and where the operator allows it of rows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from privacy.errors import StorageError, StorageNewer
from server.evidence.schema import FORMAT, formats, outcomes, records, tables

SQLITE = "sqlite:///"
_MANY = 500
"""Ids in one question to the database."""


@dataclass(frozen=True)
class Outcome:
    """Of one row of one prediction. at: when it was observed, in seconds since 1970; the latest word counts.

    told, penalties: by version, of the one that answered and of those that were asked too. number: in the order in
    which outcomes first came.
    """

    id: str
    row: int
    model: str
    version: int
    unit: str
    experiment: str
    shares: Mapping[int, float]
    told: Mapping[int, Sequence[float]]
    penalties: Mapping[int, float]
    outcome: object
    target: float
    at: float
    asked: float
    received: float = field(default_factory=time.time)
    number: int = 0


@dataclass
class Taken:
    """What came of a message. changed: another word than before; repeated: the same, or an older one."""

    accepted: int = 0
    changed: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Record:
    """The raw row of a prediction. subject: a keyed digest of whom it is about; empty: nobody said.

    What became of it is put under `label` into `document`, a JSON object, when it is known; `labelled` says when first,
    and `corrections` how often it was said otherwise since (read by clients.sources.stream).
    """

    id: str
    row: int
    model: str
    label: str
    subject: str
    asked: float
    document: str


class Outcomes:
    """The database at a SQLAlchemy URL: SQLite, made when first written to, or PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None

    def take(self, found: Sequence[Outcome]) -> Taken:
        """All of a message or nothing. The order in which messages come, and how often, changes nothing but numbers.

        Raises StorageError.
        """
        try:
            return self._take(found)
        except IntegrityError:  # another replica took the same one at this moment
            return self._take(found)

    def _take(self, found: Sequence[Outcome]) -> Taken:
        newest = _newest(found)
        taken, new, told = Taken(repeated=len(found) - len(newest)), [], []
        with self._begun() as db:
            known = self._known(db, {one.id for one in found})
            for key, one in newest.items():
                text = _canonical(one.outcome)
                if key not in known:
                    new.append(_fields(one, text))
                    told.append(one)
                    continue
                changed = self._change(db, one, text)
                taken.changed += changed and text != known[key]
                taken.repeated += not changed or text == known[key]
                if changed:
                    told.append(one)
            if new:
                db.execute(sa.insert(outcomes), new)
            taken.accepted += len(new)
            for one in told:
                _label(db, one.id, one.row, one.outcome, one.received)
        return taken

    @staticmethod
    def _change(db: sa.Connection, one: Outcome, text: str) -> bool:
        """Whether this word is later than the one that stands there now, whoever else writes at this moment."""
        earlier = (outcomes.c.at < one.at) | ((outcomes.c.at == one.at) & (outcomes.c.outcome < text))
        chosen = (outcomes.c.id == one.id) & (outcomes.c.row == one.row) & earlier
        fields = _fields(one, text)
        values = {name: fields[name] for name in ("outcome", "target", "penalties", "at")}
        return bool(db.execute(sa.update(outcomes).where(chosen).values(**values)).rowcount)

    @staticmethod
    def _known(db: sa.Connection, ids: set[str]) -> dict[tuple[str, int], str]:
        """What is said of the rows of some predictions."""
        found: dict[tuple[str, int], str] = {}
        asked = sorted(ids)
        for at in range(0, len(asked), _MANY):
            chosen = outcomes.c.id.in_(asked[at : at + _MANY])
            columns = (outcomes.c.id, outcomes.c.row, outcomes.c.outcome)
            found |= {(id, row): text for id, row, text in db.execute(sa.select(*columns).where(chosen))}
        return found

    def keep(self, found: Sequence[Record]) -> None:
        """Raw rows, until their outcomes come, or with those that came before. Raises StorageError."""
        with self._begun() as db:
            db.execute(sa.insert(records), [vars(one) for one in found])
            for (id, row), text in self._known(db, {one.id for one in found}).items():
                _label(db, id, row, json.loads(text), time.time())

    def of(self, model: str, since: float = 0.0) -> list[Outcome]:
        """What is known, in the order in which it first came. since: asked not before. Raises StorageError."""
        if self.missing:
            return []
        chosen = (outcomes.c.model == model) & (outcomes.c.asked >= since)
        with self._begun() as db:
            return [_read(row) for row in db.execute(sa.select(outcomes).where(chosen).order_by(outcomes.c.number))]

    def latest(self, model: str, version: int, count: int) -> list[Outcome]:
        """Of what one version answered, the last so many that came, in their order. Raises StorageError."""
        if self.missing:
            return []
        chosen = (outcomes.c.model == model) & (outcomes.c.version == version)
        asked = sa.select(outcomes).where(chosen).order_by(outcomes.c.number.desc()).limit(count)
        with self._begun() as db:
            return [_read(row) for row in db.execute(asked)][::-1]

    def forget(self, before: float, id: str | None = None) -> tuple[int, int]:
        """Outcomes and rows of predictions that were asked before, or of one, of all models; how many. Raises
        StorageError."""
        if self.missing:
            return 0, 0
        with self._begun() as db:
            gone = [
                db.execute(sa.delete(table).where(table.c.id == id if id else table.c.asked < before)).rowcount
                for table in (outcomes, records)
            ]
        return gone[0], gone[1]

    def records(self, model: str) -> tuple[int, int]:
        """Raw rows that are kept, and those of them whose outcome has come. Raises StorageError."""
        if self.missing:
            return 0, 0
        with self._begun() as db:
            counts = sa.select(sa.func.count(), sa.func.count(records.c.labelled)).where(records.c.model == model)
            kept, complete = db.execute(counts).one()
        return kept, complete

    @property
    def missing(self) -> bool:
        """Nothing was ever written: looking makes nothing."""
        return self.url.startswith(SQLITE) and not Path(self.url.removeprefix(SQLITE)).exists()

    @property
    def place(self) -> str:
        """Without a password."""
        return sa.engine.make_url(self.url).render_as_string(hide_password=True)

    @contextmanager
    def _begun(self) -> Iterator[sa.Connection]:
        try:
            with self._opened().begin() as db:
                yield db
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError, ImportError) as error:
            self._engine = None
            what = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise StorageError(
                f"the outcomes at {self.place} cannot be read or written: {what[:120]}",
                remedy="Start its database, free its disk, or correct serving.feedback.store.",
            ) from None

    def _opened(self) -> sa.Engine:
        if self._engine is not None and not self.missing:
            return self._engine
        engine = _engine(self.url)
        tables.create_all(engine)
        with engine.begin() as db:
            found = db.execute(sa.select(sa.func.max(formats.c.format))).scalar_one()
            if found is None:
                with suppress(IntegrityError):
                    db.execute(sa.insert(formats).values(format=FORMAT))
        if found is not None and found > FORMAT:
            engine.dispose()
            raise StorageNewer(
                f"the outcomes at {self.place} have format {found} of a newer version; this one knows {FORMAT}",
                remedy="Install that version, or name another serving.feedback.store.",
            )
        self._engine = engine
        return engine


def _engine(url: str) -> sa.Engine:
    if not url.startswith(SQLITE):
        patience = {"connect_timeout": 10} if url.startswith("postgresql") else {}
        return sa.create_engine(url, poolclass=NullPool, connect_args=patience)
    path = Path(url.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    engine = sa.create_engine(url, connect_args={"timeout": 10}, poolclass=NullPool)

    @sa.event.listens_for(engine, "connect")
    def ready(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # who reads holds up nobody who writes

    return engine


def _label(db: sa.Connection, id: str, row: int, outcome: object, when: float) -> None:
    """Put what became of it into the row that was kept, if one was."""
    chosen = (records.c.id == id) & (records.c.row == row)
    found = db.execute(sa.select(records.c.document, records.c.label, records.c.labelled).where(chosen)).first()
    if found is None:
        return
    document, label, labelled = found
    values: dict[str, Any] = {"document": json.dumps({**json.loads(document), label: outcome})}
    values |= {"labelled": when} if labelled is None else {"corrections": records.c.corrections + 1}
    db.execute(sa.update(records).where(chosen).values(**values))


def _newest(found: Sequence[Outcome]) -> dict[tuple[str, int], Outcome]:
    """One word on each row: the latest; of those at one moment the greater, whatever came first."""
    newest: dict[tuple[str, int], Outcome] = {}
    for one in found:
        before = newest.get((one.id, one.row))
        if before is None or (one.at, _canonical(one.outcome)) > (before.at, _canonical(before.outcome)):
            newest[one.id, one.row] = one
    return newest


def _canonical(outcome: object) -> str:
    return json.dumps(outcome)


def _fields(one: Outcome, text: str) -> dict[str, object]:
    """As the table has them."""
    return {
        "id": one.id,
        "row": one.row,
        "model": one.model,
        "version": one.version,
        "unit": one.unit,
        "experiment": one.experiment,
        "shares": json.dumps(one.shares),
        "told": json.dumps({version: list(numbers) for version, numbers in one.told.items()}),
        "penalties": json.dumps(one.penalties),
        "outcome": text,
        "target": one.target,
        "at": one.at,
        "asked": one.asked,
        "received": one.received,
    }


def _read(row: Any) -> Outcome:
    fields = dict(row._mapping)
    for name in ("shares", "told", "penalties"):
        fields[name] = {int(version): value for version, value in json.loads(fields[name]).items()}
    return Outcome(**{**fields, "outcome": json.loads(fields["outcome"])})
