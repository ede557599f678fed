"""Lineage: which execution made which artifact from which, in which run. A small schema after ML Metadata.

artifacts - events (INPUT, OUTPUT) - executions - associations - contexts. A context is a run; an execution belongs to
every run that made or reused it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from pipeline.store.schema import artifacts, associations, contexts, events, executions, opened
from privacy.errors import ConfigError, NotFound

State = Literal["RUNNING", "WAITING", "COMPLETE", "FAILED"]
"""WAITING: a run that was asked for a part of its stages, and has it."""
Direction = Literal["INPUT", "OUTPUT"]


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


def run_id(name: str) -> str:
    """The id of the run that somebody else calls `name`: eight hex digits stand for themselves, any other text is
    hashed to them, so that several processes can say which run they work for."""
    return name if re.fullmatch("[0-9a-f]{8}", name) else hashlib.sha256(name.encode()).hexdigest()[:8]


class Metadata:
    """The metadata store: SQLite by default, any SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        """Raises StorageNewer for a store that a newer version has written."""
        self._engine = opened(url)

    def close(self) -> None:
        self._engine.dispose()

    # -- runs --------------------------------------------------------------------------------------------------------
    def begin_run(self, name: str, config: Mapping[str, Any], run: str | None = None) -> str:
        """A new run, under the id `run` if given, or that run once more. Runs that a killed process left RUNNING are
        marked FAILED. Raises ConfigError when the run had another configuration."""
        run = run or new_run()
        known = self.accepts(run, config)
        with self._engine.begin() as db:
            db.execute(
                sa.update(contexts)
                .where(contexts.c.state == "RUNNING")
                .values(state="FAILED", error="the process ended before the run did")
            )
            if known:
                again = {"state": "RUNNING", "error": None, "ended": None}
                db.execute(sa.update(contexts).where(contexts.c.id == run).values(again))
            else:
                values = {"id": run, "name": name, "state": "RUNNING", "config": dict(config), "started": time.time()}
                db.execute(sa.insert(contexts).values(values))
        return run

    def accepts(self, run: str, config: Mapping[str, Any]) -> bool:
        """Whether the run is known. Raises ConfigError when it is, with another configuration."""
        with self._engine.connect() as db:
            known = db.execute(sa.select(contexts.c.config).where(contexts.c.id == run)).scalar_one_or_none()
        if known is not None and known != dict(config):
            raise ConfigError(
                f"run {run} was begun with another configuration",
                remedy="Give the one it was begun with, or another name: --run NAME.",
            )
        return known is not None

    def end_run(self, run: str, error: str | None = None, *, waiting: bool = False) -> None:
        """waiting: it has what it was asked for, and is not at its end."""
        values = {
            "state": "FAILED" if error else "WAITING" if waiting else "COMPLETE",
            "error": error,
            "ended": time.time(),
        }
        with self._engine.begin() as db:
            db.execute(sa.update(contexts).where(contexts.c.id == run).values(values))

    def runs(self) -> list[Run]:
        """Newest first."""
        columns = [contexts.c[name] for name in ("id", "name", "state", "error", "started", "ended")]
        with self._engine.connect() as db:
            rows = db.execute(sa.select(*columns).order_by(contexts.c.started.desc()))
            return [Run(*row) for row in rows]

    def run(self, prefix: str) -> Run:
        """The run whose id begins with `prefix`. Raises NotFound unless it is one."""
        found = [run for run in self.runs() if run.id.startswith(prefix)]
        if len(found) != 1:
            raise NotFound(f"{len(found)} runs begin with {prefix!r}", remedy="See: sottovoce runs list")
        return found[0]

    def config_of(self, prefix: str) -> dict[str, Any]:
        """The settings of that run. Raises NotFound."""
        query = sa.select(contexts.c.config).where(contexts.c.id == self.run(prefix).id)
        with self._engine.connect() as db:
            return dict(db.execute(query).scalar_one())

    def executions_of(self, run: str) -> list[tuple[Execution, bool]]:
        """The executions of a run in order of their start, each with whether it was reused from an earlier run."""
        query = (
            sa.select(executions, associations.c.cached)
            .join(associations, associations.c.execution == executions.c.id)
            .where(associations.c.context == run)
            .order_by(executions.c.started)
        )
        with self._engine.connect() as db:
            return [(Execution(*row[:-1]), row[-1]) for row in db.execute(query)]

    # -- executions --------------------------------------------------------------------------------------------------
    def find(self, key: str, run: str | None = None) -> list[Execution]:
        """Executions with this cache key, newest first; of one run, or of any."""
        query = sa.select(executions).where(executions.c.key == key).order_by(executions.c.started.desc())
        if run is not None:
            query = query.join(associations, associations.c.execution == executions.c.id)
            query = query.where(associations.c.context == run)
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
            db.execute(sa.insert(executions).values(values))
        return execution

    def end(self, execution: str, error: str | None = None) -> None:
        values = {"state": "FAILED" if error else "COMPLETE", "error": error, "ended": time.time()}
        with self._engine.begin() as db:
            db.execute(sa.update(executions).where(executions.c.id == execution).values(values))

    def associate(self, run: str, execution: str, *, cached: bool) -> None:
        with self._engine.begin() as db:
            where = (associations.c.context == run) & (associations.c.execution == execution)
            if db.execute(sa.select(associations).where(where)).first() is None:
                db.execute(sa.insert(associations).values(context=run, execution=execution, cached=cached))

    def maker(self, execution: str) -> str | None:
        """Id of the run that an execution was made in."""
        query = sa.select(associations.c.context).where(
            (associations.c.execution == execution) & associations.c.cached.is_(False)
        )
        with self._engine.connect() as db:
            return db.execute(query).scalars().first()

    # -- artifacts ---------------------------------------------------------------------------------------------------
    def record(self, execution: str, direction: Direction, name: str, digest: str, type: str) -> None:
        """Note an input or output; noting the same name again replaces it."""
        with self._engine.begin() as db:
            if db.execute(sa.select(artifacts).where(artifacts.c.digest == digest)).first() is None:
                db.execute(sa.insert(artifacts).values(digest=digest, type=type, created=time.time()))
            place = (events.c.execution == execution) & (events.c.direction == direction) & (events.c.name == name)
            db.execute(sa.delete(events).where(place))
            values = {"execution": execution, "artifact": digest, "direction": direction, "name": name}
            db.execute(sa.insert(events).values(values))

    def links(
        self, *, execution: str | None = None, artifact: str | None = None, direction: Direction | None = None
    ) -> list[Link]:
        """Events of one execution or of one artifact."""
        query = sa.select(events.c.execution, events.c.artifact, events.c.direction, events.c.name)
        if execution is not None:
            query = query.where(events.c.execution == execution)
        if artifact is not None:
            query = query.where(events.c.artifact == artifact)
        if direction is not None:
            query = query.where(events.c.direction == direction)
        with self._engine.connect() as db:
            return [Link(*row) for row in db.execute(query.order_by(events.c.id))]

    def output(self, execution: str, name: str) -> str | None:
        """Digest of one output."""
        found = [link.artifact for link in self.links(execution=execution, direction="OUTPUT") if link.name == name]
        return found[0] if found else None

    def matching(self, prefix: str) -> list[tuple[str, str]]:
        """(digest, type) of the artifacts whose digest begins with `prefix`."""
        query = sa.select(artifacts.c.digest, artifacts.c.type).where(artifacts.c.digest.startswith(prefix))
        with self._engine.connect() as db:
            return [(digest, type) for digest, type in db.execute(query)]

    def execution(self, id: str) -> Execution:
        with self._engine.connect() as db:
            return Execution(*db.execute(sa.select(executions).where(executions.c.id == id)).one())

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
