"""The tables of outcomes, and of rows that are kept until their outcomes come."""

from __future__ import annotations

import sqlalchemy as sa

FORMAT = 1
"""Of these tables, and of what is in them."""

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
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("subject", sa.String(16), nullable=False),
    sa.Column("asked", sa.Float, nullable=False),
    sa.Column("labelled", sa.Float),
    sa.Column("corrections", sa.Integer, nullable=False, default=0),
    sa.Column("document", sa.Text, nullable=False),
    sa.UniqueConstraint("id", "row"),
)
formats = sa.Table("formats", tables, sa.Column("format", sa.Integer, primary_key=True))
