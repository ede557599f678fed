"""Naming a database by URL, in a file that people read and pass on."""

from __future__ import annotations


def named_database(url: str, user: str, file: str) -> str:
    """`url` as it is. user, file: for the example, and for the word against a password. Raises ValueError for what is
    no URL of a database, or holds a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        found = make_url(url)
    except ArgumentError:
        raise ValueError(f"not a URL of a database; such as postgresql+psycopg://{user}@host/db") from None
    if found.password:
        raise ValueError(f"a password has no place in a {file}: let PGPASSFILE or PGPASSWORD have it")
    return url
