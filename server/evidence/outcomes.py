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

FORMAT = 1
SQLITE = "sqlite:///"
_MANY = 500
"""Ids in one question to the database."""

tables = sa.MetaData()
outcomes = sa.Table(
    "outcomes",
    tables,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(24), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("model", sa.String(63), nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("unit", sa.String(16), nullable=False),
    sa.Column("experiment", sa.String(8), nullable=False),
    sa.Column("shares", sa.Text, nullable=False),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("penalties", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("target", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("asked", sa.Float, nullable=False),
    sa.Column("received", sa.Float, nullable=False),
    sa.UniqueConstraint("id", "row"),
)
records = sa.Table(
    "feedback_records",
    tables,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(24), nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("subject", sa.String(16), nullable=False),
    sa.Column("asked", sa.Float, nullable=False),
    sa.Column("changed", sa.Float),
    sa.Column("document", sa.Text, nullable=False),
    sa.UniqueConstraint("id", "row"),
)
formats = sa.Table("formats", tables, sa.Column("format", sa.Integer, primary_key=True))


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

    What became of it is put into `document` when it is known, and `changed` says when (read by clients.sources.stream).
    """

    id: str
    row: int
    model: str
    subject: str
    asked: float
    document: Mapping[str, object]


class Outcomes:
    """The database at a SQLAlchemy URL: SQLite, made when first written to, or PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None

    def take(self, found: Sequence[Outcome], label: str = "") -> Taken:
        """All of a message or nothing. The order in which messages come, and how often, changes nothing but numbers.

        label: the column in which a record that was kept gets its outcome. Raises StorageError.
        """
        try:
            return self._take(found, label)
        except IntegrityError:  # another replica took the same one at this moment
            return self._take(found, label)

    def _take(self, found: Sequence[Outcome], label: str) -> Taken:
        taken, newest = Taken(), _newest(found)
        with self._begun() as db:
            known = self._known(db, {one.id for one in found})
            for key, one in newest.items():
                text = _canonical(one.outcome)
                if key not in known:
                    db.execute(sa.insert(outcomes).values(**_fields(one, text)))
                    taken.accepted += 1
                elif (one.at, text) > known[key]:
                    chosen = (outcomes.c.id == one.id) & (outcomes.c.row == one.row)
                    changed = {name: _fields(one, text)[name] for name in ("outcome", "target", "penalties", "at")}
                    db.execute(sa.update(outcomes).where(chosen).values(**changed))
                    taken.changed += text != known[key][1]
                    taken.repeated += text == known[key][1]
                else:
                    taken.repeated += 1
                    continue
                self._label(db, one, label)
            taken.repeated += len(found) - len(newest)
        return taken

    @staticmethod
    def _known(db: sa.Connection, ids: set[str]) -> dict[tuple[str, int], tuple[float, str]]:
        found, asked = {}, sorted(ids)
        for at in range(0, len(asked), _MANY):
            chosen = outcomes.c.id.in_(asked[at : at + _MANY])
            columns = (outcomes.c.id, outcomes.c.row, outcomes.c.at, outcomes.c.outcome)
            for id, row, when, text in db.execute(sa.select(*columns).where(chosen)):
                found[id, row] = (when, text)
        return found

    @staticmethod
    def _label(db: sa.Connection, one: Outcome, label: str) -> None:
        chosen = (records.c.id == one.id) & (records.c.row == one.row)
        document = db.execute(sa.select(records.c.document).where(chosen)).scalar()
        if label and document is not None:
            text = json.dumps({**json.loads(document), label: one.outcome})
            db.execute(sa.update(records).where(chosen).values(document=text, changed=one.received))

    def keep(self, found: Sequence[Record]) -> None:
        """Raw rows, until their outcomes come. Raises StorageError."""
        rows = [{**vars(one), "document": json.dumps(one.document)} for one in found]
        with self._begun() as db:
            db.execute(sa.insert(records), rows)

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
        """Outcomes and rows of predictions that were asked before, or of one; how many. Raises StorageError."""
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
            counts = sa.select(sa.func.count(), sa.func.count(records.c.changed)).where(records.c.model == model)
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
        return sa.create_engine(url, poolclass=NullPool)
    path = Path(url.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(url, connect_args={"timeout": 10}, poolclass=NullPool)

    @sa.event.listens_for(engine, "connect")
    def ready(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # who reads holds up nobody who writes

    return engine


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
