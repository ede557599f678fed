"""Late, repeated or out of order: the same outcomes come to the same, in SQLite and in PostgreSQL."""

import itertools
import json
import secrets
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.errors import StorageError, StorageNewer
from server.evidence.outcomes import Outcome, Outcomes, Record
from server.evidence.schema import records, tables

ONE = Outcome(
    id="a" * 24,
    row=0,
    model="stay",
    version=2,
    unit="0" * 16,
    experiment="",
    shares={1: 0.9, 2: 0.1},
    told={2: [0.25]},
    penalties={2: 0.0625},
    outcome="no",
    target=0.0,
    at=100.0,
    asked=50.0,
    received=101.0,
)
YES = replace(ONE, outcome="yes", target=1.0, penalties={2: 0.5625}, at=200.0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outcomes]:
    if request.param == "sqlite":
        yield Outcomes(f"sqlite:///{tmp_path / 'o' / 'feedback.db'}")
    else:
        yield Outcomes(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of its own, which is stopped at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgserver

        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture
def postgres(server: str) -> Iterator[str]:
    yield server
    engine = sa.create_engine(server)
    tables.drop_all(engine)
    engine.dispose()


def said(store: Outcomes) -> list[tuple[Any, ...]]:
    return [(one.id, one.row, one.outcome, one.target, one.penalties, one.at) for one in store.of("stay")]


def test_what_was_said_is_read_back_whole(store: Outcomes) -> None:
    assert store.of("stay") == []
    assert vars(store.take([ONE, replace(ONE, row=1)])) == {"accepted": 2, "changed": 0, "repeated": 0}
    assert store.of("stay") == [replace(ONE, number=1), replace(ONE, row=1, number=2)]
    assert store.of("other") == []
    assert store.of("stay", since=51.0) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_latest_word_counts_in_whatever_order_words_come(tmp_path: Path, order: tuple[int, ...]) -> None:
    words = [ONE, YES, replace(ONE, at=300.0)]
    one_by_one = Outcomes(f"sqlite:///{tmp_path}/one.db")
    for at in order:
        one_by_one.take([words[at]])
        one_by_one.take([words[at]])
    together = Outcomes(f"sqlite:///{tmp_path}/all.db")
    together.take([words[at] for at in order])
    assert said(one_by_one) == said(together) == [("a" * 24, 0, "no", 0.0, {2: 0.0625}, 300.0)]


WORDS = st.lists(
    st.builds(
        lambda row, at, yes: replace(YES if yes else ONE, row=row, at=float(at)),
        st.integers(0, 2),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_come_to_the_same(tmp_path: Path, words: list[Outcome], order: Any) -> None:
    stores = []
    for number in range(2):
        path = tmp_path / f"{secrets.token_hex(8)}-{number}.db"
        store, shuffled = Outcomes(f"sqlite:///{path}"), [*words, *words] if number else list(words)
        order.shuffle(shuffled)
        for word in shuffled:
            store.take([word])
        stores.append(sorted(said(store)))
    assert stores[0] == stores[1]


def test_replicas_that_take_the_same_at_once_keep_one(store: Outcomes) -> None:
    store.take([])
    words = [replace(ONE, row=row) for row in range(20)]
    threads = [threading.Thread(target=Outcomes(store.url).take, args=(words,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.of("stay")) == 20


def record(id: str, document: str = '{"age": 70}') -> Record:
    return Record(id * 24, 0, "stay", "died", "", 50.0, document)


def documents(store: Outcomes) -> list[tuple[dict[str, Any], bool, int]]:
    """What is kept, whether its outcome came, and how often that was corrected."""
    with store._begun() as db:
        found = db.execute(sa.select(records.c.document, records.c.labelled, records.c.corrections).order_by("number"))
        return [(json.loads(text), when is not None, corrections) for text, when, corrections in found]


def test_a_row_that_was_kept_gets_its_outcome_and_its_correction(store: Outcomes) -> None:
    store.keep([record("a"), record("b")])
    store.take([ONE])
    assert documents(store) == [({"age": 70, "died": "no"}, True, 0), ({"age": 70}, False, 0)]
    store.take([YES])
    store.take([ONE])
    assert documents(store)[0] == ({"age": 70, "died": "yes"}, True, 1)
    assert store.records("stay") == (2, 1)
    assert store.records("other") == (0, 0)
    assert store.forget(before=0.0, id="a" * 24) == (1, 1)
    assert store.forget(before=51.0) == (0, 1)
    assert store.of("stay") == []


def test_an_outcome_that_comes_before_its_row_is_written_is_not_lost(store: Outcomes) -> None:
    store.take([YES])
    store.keep([record("a", '{"age": 71, "unit": null}')])
    assert documents(store) == [({"age": 71, "unit": None, "died": "yes"}, True, 0)]


def test_of_words_that_come_at_once_the_latest_stands(store: Outcomes) -> None:
    store.take([ONE])
    words = [replace(ONE, at=200.0 + at, outcome=f"word {at}", target=float(at)) for at in range(40)]
    threads = [threading.Thread(target=Outcomes(store.url).take, args=([word],)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.of("stay")[0].outcome == "word 39"


def test_looking_makes_nothing_and_what_is_made_is_the_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "o" / "feedback.db"
    store = Outcomes(f"sqlite:///{path}")
    assert store.of("stay") == []
    assert store.forget(before=1e12) == (0, 0)
    assert store.records("stay") == (0, 0)
    assert not path.parent.exists()
    store.take([ONE])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.unlink()
    assert store.of("stay") == []
    store.take([ONE])
    assert len(store.of("stay")) == 1


def test_what_cannot_be_read_is_told_without_a_password(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"no database at all, whatever it is called" * 40)
    with pytest.raises(StorageError, match="cannot be read or written: file is not a database"):
        Outcomes(f"sqlite:///{tmp_path}/junk.db").of("stay")
    away = Outcomes("postgresql+psycopg://me:secret@127.0.0.1:9/none?connect_timeout=2")
    with pytest.raises(StorageError) as caught:
        away.of("stay")
    assert "secret" not in str(caught.value)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    Outcomes(f"sqlite:///{path}").take([ONE])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO formats VALUES (2)")
    with pytest.raises(StorageNewer, match="format 2 of a newer version"):
        Outcomes(f"sqlite:///{path}").of("stay")
