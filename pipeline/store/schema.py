"""The tables of the metadata store: a small schema after ML Metadata, and the newest ledger heads of the clients.

artifacts - events (INPUT, OUTPUT) - executions - associations - contexts. A context is a run; an execution belongs to
every run that made or reused it.
"""

from __future__ import annotations

import sqlalchemy as sa

from privacy.errors import StorageNewer

FORMAT = 1
"""Of these tables, and of what is in them. Stores of version 0.1.0 do not say theirs: it is this one."""

metadata = sa.MetaData()
artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
executions = sa.Table(
    "executions",
    metadata,
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
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("execution", sa.ForeignKey("executions.id"), nullable=False, index=True),
    sa.Column("artifact", sa.ForeignKey("artifacts.digest"), nullable=False, index=True),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.UniqueConstraint("execution", "direction", "name"),
)
contexts = sa.Table(
    "contexts",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
)
associations = sa.Table(
    "associations",
    metadata,
    sa.Column("context", sa.ForeignKey("contexts.id"), primary_key=True),
    sa.Column("execution", sa.ForeignKey("executions.id"), primary_key=True),
    sa.Column("cached", sa.Boolean, nullable=False),
)
heads = sa.Table(
    "ledger_heads",
    metadata,
    sa.Column("client", sa.String(63), primary_key=True),
    sa.Column("head", sa.String(64), nullable=False),
    sa.Column("time", sa.Float, nullable=False),
)
formats = sa.Table("formats", metadata, sa.Column("format", sa.Integer, primary_key=True))


def opened(url: str) -> sa.Engine:
    """The store at a SQLAlchemy URL, with its tables. Raises StorageNewer when a newer version has written it."""
    engine = sa.create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})
    metadata.create_all(engine)
    with engine.begin() as db:
        found = db.execute(sa.select(sa.func.max(formats.c.format))).scalar_one()
        if found is None:
            db.execute(sa.insert(formats).values(format=FORMAT))
    if found is not None and found > FORMAT:
        engine.dispose()
        raise StorageNewer(
            f"this workspace has format {found}, which a newer version of Sottovoce wrote; this one knows {FORMAT}",
            remedy="Install that version, or choose another folder with --workspace.",
        )
    return engine
