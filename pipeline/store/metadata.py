"""Lineage: which execution made which artifact from which, in which run. A small schema after ML Metadata.

artifacts - events (INPUT, OUTPUT) - executions - associations - contexts. A context is a run; an execution belongs to
every run that made or reused it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from privacy.errors import NotFound

State = Literal["RUNNING", "COMPLETE", "FAILED"]
Direction = Literal["INPUT", "OUTPUT"]

_schema = sa.MetaData()
_artifacts = sa.Table(
    "artifacts",
    _schema,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
_executions = sa.Table(
    "executions",
    _schema,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("stage", sa.String(64), nullable=False),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
)
_events = sa.Table(
    "events",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("execution", sa.ForeignKey("executions.id"), nullable=False, index=True),
    sa.Column("artifact", sa.ForeignKey("artifacts.digest"), nullable=False, index=True),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.UniqueConstraint("execution", "direction", "name"),
)
_contexts = sa.Table(
    "contexts",
    _schema,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
)
_associations = sa.Table(
    "associations",
    _schema,
    sa.Column("context", sa.ForeignKey("contexts.id"), primary_key=True),
    sa.Column("execution", sa.ForeignKey("executions.id"), primary_key=True),
    sa.Column("cached", sa.Boolean, nullable=False),
)
_heads = sa.Table(
    "ledger_heads",
    _schema,
    sa.Column("client", sa.String(63), primary_key=True),
    sa.Column("head", sa.String(64), nullable=False),
    sa.Column("time", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Execution:
    """One execution of a stage."""

    id: str
    stage: str
    key: str
    parameters: Mapping[str, Any]
    code: str
    state: State
    error: str | None
    started: float
    ended: float | None


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    id: str
    name: str
    state: State
    error: str | None
    started: float
    ended: float | None


@dataclass(frozen=True)
class Link:
    """An artifact as input or output of an execution."""

    execution: str
    artifact: str
    direction: Direction
    name: str


def new_run() -> str:
    """An id for a run: eight hex digits."""
    return secrets.token_hex(4)


class Metadata:
    """The metadata store: SQLite by default, any SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})
        _schema.create_all(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    # -- heads of the clients' ledgers -------------------------------------------------------------------------------
    def head(self, client: str) -> str | None:
        """The newest ledger head that a client published, in any run; not one that an earlier version sent bare."""
        with self._engine.connect() as db:
            head = db.execute(sa.select(_heads.c.head).where(_heads.c.client == client)).scalar_one_or_none()
        return head if head and len(head) == 32 else None

    def note_heads(self, heads: Mapping[str, str]) -> None:
        """Keep them by client: a ledger that lacks its own later was deleted or restored from a backup."""
        if not heads:
            return
        rows = [{"client": client, "head": head, "time": time.time()} for client, head in heads.items()]
        with self._engine.begin() as db:
            db.execute(sa.delete(_heads).where(_heads.c.client.in_(heads)))
            db.execute(sa.insert(_heads), rows)

    # -- runs --------------------------------------------------------------------------------------------------------
    def begin_run(self, name: str, config: Mapping[str, Any], run: str | None = None) -> str:
        """A new run, under the id `run` if given; runs that a killed process left RUNNING are marked FAILED."""
        run = run or new_run()
        with self._engine.begin() as db:
            db.execute(
                sa.update(_contexts)
                .where(_contexts.c.state == "RUNNING")
                .values(state="FAILED", error="the process ended before the run did")
            )
            values = {"id": run, "name": name, "state": "RUNNING", "config": dict(config), "started": time.time()}
            db.execute(sa.insert(_contexts).values(values))
        return run

    def end_run(self, run: str, error: str | None = None) -> None:
        values = {"state": "FAILED" if error else "COMPLETE", "error": error, "ended": time.time()}
        with self._engine.begin() as db:
            db.execute(sa.update(_contexts).where(_contexts.c.id == run).values(values))

    def runs(self) -> list[Run]:
        """Newest first."""
        columns = [_contexts.c[name] for name in ("id", "name", "state", "error", "started", "ended")]
        with self._engine.connect() as db:
            rows = db.execute(sa.select(*columns).order_by(_contexts.c.started.desc()))
            return [Run(*row) for row in rows]

    def run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`. Raises NotFound unless it is one."""
        found = [run for run in self.runs() if run.id.startswith(prefix)]
        if len(found) != 1:
            raise NotFound(f"{len(found)} runs begin with {prefix!r}", remedy="See: sottovoce runs list")
        return found[0]

    def config_of(self, prefix: str) -> dict[str, Any]:
        """The settings of that run. Raises NotFound."""
        query = sa.select(_contexts.c.config).where(_contexts.c.id == self.run(prefix).id)
        with self._engine.connect() as db:
            return dict(db.execute(query).scalar_one())

    def executions_of(self, run: str) -> list[tuple[Execution, bool]]:
        """The executions of a run in order of their start, each with whether it was reused from an earlier run."""
        query = (
            sa.select(_executions, _associations.c.cached)
            .join(_associations, _associations.c.execution == _executions.c.id)
            .where(_associations.c.context == run)
            .order_by(_executions.c.started)
        )
        with self._engine.connect() as db:
            return [(Execution(*row[:-1]), row[-1]) for row in db.execute(query)]

    # -- executions --------------------------------------------------------------------------------------------------
    def find(self, key: str) -> list[Execution]:
        """Executions with this cache key, newest first."""
        query = sa.select(_executions).where(_executions.c.key == key).order_by(_executions.c.started.desc())
        with self._engine.connect() as db:
            return [Execution(*row) for row in db.execute(query)]

    def begin(self, stage: str, key: str, parameters: Mapping[str, Any], code: str) -> str:
        """A new execution, RUNNING."""
        execution = secrets.token_hex(8)
        values = {
            "id": execution,
            "stage": stage,
            "key": key,
            "parameters": dict(parameters),
            "code": code,
            "state": "RUNNING",
            "started": time.time(),
        }
        with self._engine.begin() as db:
            db.execute(sa.insert(_executions).values(values))
        return execution

    def end(self, execution: str, error: str | None = None) -> None:
        values = {"state": "FAILED" if error else "COMPLETE", "error": error, "ended": time.time()}
        with self._engine.begin() as db:
            db.execute(sa.update(_executions).where(_executions.c.id == execution).values(values))

    def associate(self, run: str, execution: str, *, cached: bool) -> None:
        with self._engine.begin() as db:
            where = (_associations.c.context == run) & (_associations.c.execution == execution)
            if db.execute(sa.select(_associations).where(where)).first() is None:
                db.execute(sa.insert(_associations).values(context=run, execution=execution, cached=cached))

    # -- artifacts ---------------------------------------------------------------------------------------------------
    def record(self, execution: str, direction: Direction, name: str, digest: str, type: str) -> None:
        """Note an input or output; noting the same name again replaces it."""
        with self._engine.begin() as db:
            if db.execute(sa.select(_artifacts).where(_artifacts.c.digest == digest)).first() is None:
                db.execute(sa.insert(_artifacts).values(digest=digest, type=type, created=time.time()))
            place = (_events.c.execution == execution) & (_events.c.direction == direction) & (_events.c.name == name)
            db.execute(sa.delete(_events).where(place))
            values = {"execution": execution, "artifact": digest, "direction": direction, "name": name}
            db.execute(sa.insert(_events).values(values))

    def links(self, *, execution: str | None = None, artifact: str | None = None) -> list[Link]:
        """Events of one execution or of one artifact."""
        query = sa.select(_events.c.execution, _events.c.artifact, _events.c.direction, _events.c.name)
        if execution is not None:
            query = query.where(_events.c.execution == execution)
        if artifact is not None:
            query = query.where(_events.c.artifact == artifact)
        with self._engine.connect() as db:
            return [Link(*row) for row in db.execute(query.order_by(_events.c.id))]

    def output(self, execution: str, name: str) -> str | None:
        """Digest of one output."""
        found = [
            link.artifact for link in self.links(execution=execution) if (link.direction, link.name) == ("OUTPUT", name)
        ]
        return found[0] if found else None

    def matching(self, prefix: str) -> list[tuple[str, str]]:
        """(digest, type) of the artifacts whose digest begins with `prefix`."""
        query = sa.select(_artifacts.c.digest, _artifacts.c.type).where(_artifacts.c.digest.startswith(prefix))
        with self._engine.connect() as db:
            return [(digest, type) for digest, type in db.execute(query)]

    def execution(self, id: str) -> Execution:
        with self._engine.connect() as db:
            return Execution(*db.execute(sa.select(_executions).where(_executions.c.id == id)).one())

    def ancestry(self, digest: str) -> Iterator[tuple[int, Link, Execution]]:
        """Who made an artifact and everything it was made from: (depth, output link, execution), depth first."""
        seen: set[tuple[str, str]] = set()

        def walk(artifact: str, depth: int) -> Iterator[tuple[int, Link, Execution]]:
            makers: Sequence[Link] = [link for link in self.links(artifact=artifact) if link.direction == "OUTPUT"]
            for link in makers[:1]:
                if (link.execution, link.artifact) in seen:
                    continue
                seen.add((link.execution, link.artifact))
                yield depth, link, self.execution(link.execution)
                for source in self.links(execution=link.execution):
                    if source.direction == "INPUT":
                        yield from walk(source.artifact, depth + 1)

        yield from walk(digest, 0)
