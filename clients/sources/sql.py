"""A table in a database, by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from clients.sources.source import Source
from pipeline.host.databases import named_database
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, Engine


class Sql(Source):
    """One SELECT: what it returns is one state of the database, whoever writes to it meanwhile."""

    kind: Literal["sql"] = Field(description="A table in a database.")
    url: str = Field(
        description="SQLAlchemy URL, such as postgresql+psycopg://reader@host/db. Without a password: PGPASSFILE or "
        "PGPASSWORD has it."
    )
    table: str | None = Field(None, description="Name of a table or a view, `schema.table` too.")
    query: str | None = Field(None, description="Or a SELECT.")
    watch: str | None = Field(
        None,
        description="A SELECT whose one value changes whenever the table does, such as max(changed_at). Without it the "
        "whole table is read to see whether it did.",
    )

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return named_database(url, "reader", "policy")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("expected either table or query")
        return self

    def read(self) -> pd.DataFrame:
        """Cells as the driver gives them."""
        import pandas as pd

        with self._connected() as connection:
            result = connection.execute(self._select)
            names, rows = list(result.keys()), result.fetchall()
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        return pd.DataFrame({name: _cells(cells) for name, cells in zip(names, columns, strict=True)})

    def columns(self) -> list[str]:
        with self._connected() as connection:
            return list(connection.execute(self._select.limit(0) if self.table else self._select).keys())

    def seen(self) -> str | None:
        if self.watch is None:
            return None
        from sqlalchemy import text

        with self._connected() as connection:
            return f"{self.url} {self.table or self.query} {connection.execute(text(self.watch)).scalar()}"

    @property
    def _select(self) -> Any:
        from sqlalchemy import literal_column, select, table, text

        if self.query is not None:
            return text(self.query)
        schema, _, name = str(self.table).rpartition(".")
        return select(literal_column("*")).select_from(table(name, schema=schema or None))

    def _connected(self) -> Connected:
        return Connected(self.url)


class Connected:
    """A connection, and errors by their names: a driver's own may quote rows."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Connection:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        try:
            self._engine: Engine = create_engine(self._url, poolclass=NullPool)
            self._connection = self._engine.connect()
        except (SQLAlchemyError, ImportError) as error:
            what = (
                f"the driver of {self._place} is not installed"
                if isinstance(error, ImportError)
                else (f"the database {self._place} does not answer: {type(error).__name__}")
            )
            raise SourceMissing(what, remedy="Start it, or correct source.url in policy.yaml.") from None
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self._connection.close()
        self._engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise ContractViolated(
                f"the database {self._place} refused the SELECT: {type(error).__name__}",
                remedy="Correct source.table, source.query or source.watch in policy.yaml.",
            ) from None

    @property
    def _place(self) -> str:
        from sqlalchemy.engine import make_url

        return make_url(self._url).render_as_string(hide_password=True)


def _cells(cells: Any) -> Any:
    made = np.empty(len(cells), dtype=object)
    made[:] = [bytes(cell) if isinstance(cell, memoryview) else cell for cell in cells]
    return made
