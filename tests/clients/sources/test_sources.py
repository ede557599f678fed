"""Every source gives the same cells, and says when it has changed."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import yaml
from pydantic import ValidationError

from clients.home import Home
from clients.ingestion import PLACE, ingest, load_snapshot
from clients.places import places
from clients.policy import ClientPolicy
from clients.sources.csv import Csv
from clients.sources.folder import Folder
from clients.sources.source import LEFT_OUT, Source, as_tree
from pipeline.language.protocol import IngestRequest
from pipeline.learning.cells import texts
from pipeline.learning.contract import DataContract
from privacy.errors import ContractViolated, SottovoceError, SourceMissing
from server.evidence.outcomes import Outcomes, Record
from tests.own.tables import TABLE
from tests.server.evidence.test_outcomes import ONE

KEY = bytes(range(16))


def read(tree: Any) -> pd.DataFrame:
    return Source.of(as_tree(tree)).read()


def same(frame: pd.DataFrame, other: pd.DataFrame = TABLE) -> bool:
    """Whether they say the same, cell by cell."""
    cells = [{name: texts(table[name]).tolist() for name in sorted(table)} for table in (frame, other)]
    return cells[0] == cells[1]


def as_sqlite(folder: Path) -> dict[str, Any]:
    with sqlite3.connect(folder / "data.db") as connection:
        TABLE.to_sql("stays", connection, index=False, if_exists="replace")
    connection.close()
    return {"kind": "sql", "url": f"sqlite:///{folder / 'data.db'}", "table": "stays"}


def as_folder(folder: Path) -> dict[str, Any]:
    (folder / "months").mkdir()
    TABLE[:2].to_csv(folder / "months" / "01.csv", index=False, sep=";")
    TABLE[2:][["died", "age", "patient"]].to_parquet(folder / "months" / "02.parquet")
    (folder / "months" / "README.txt").write_text("not a table")
    return {"kind": "folder", "path": str(folder / "months"), "read_as": {"delimiter": ";"}}


def as_several(folder: Path) -> list[str]:
    TABLE[:1].to_csv(folder / "one.csv", index=False)
    TABLE[1:].to_parquet(folder / "two.parquet")
    return [str(folder / "one.csv"), str(folder / "two.parquet")]


def as_csv(folder: Path) -> str:
    TABLE.to_csv(folder / "data.csv", index=False)
    return str(folder / "data.csv")


def as_parquet(folder: Path) -> str:
    TABLE.to_parquet(folder / "data.parquet")
    return str(folder / "data.parquet")


def as_function(folder: Path) -> dict[str, Any]:
    return {"kind": "callable", "function": "tests.own.tables:read"}


def as_stream(folder: Path) -> dict[str, Any]:
    """As an endpoint writes it: a row that has no outcome yet, and one of another model, are not of it."""
    url = f"sqlite:///{folder / 'feedback.db'}"
    store, rows = Outcomes(url), TABLE.to_dict("records")
    kept = [Record(f"{at:024x}", 0, "stay", "died", "", 1.0, json.dumps(row)) for at, row in enumerate(rows)]
    other = Record("b" * 24, 0, "other", "died", "", 1.0, json.dumps(rows[0]))
    store.keep([*kept, Record("a" * 24, 0, "stay", "died", "", 1.0, json.dumps(rows[0])), other])
    for one in [*kept, other]:
        store.take([replace(ONE, id=one.id, model=one.model, outcome=json.loads(one.document)["died"])])
    return {"kind": "stream", "url": url, "model": "stay"}


WAYS: dict[str, Callable[[Path], Any]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "folder": as_folder,
    "several": as_several,
    "sql": as_sqlite,
    "callable": as_function,
    "stream": as_stream,
}


@pytest.mark.parametrize("kind", WAYS)
def test_the_same_table_lies_anywhere(kind: str, tmp_path: Path) -> None:
    source = Source.of(as_tree(WAYS[kind](tmp_path)))
    assert source.kind == kind
    assert same(source.read())
    assert sorted(source.columns()) == ["age", "died", "patient"]
    assert np.array_equal(places(source.read(), KEY), places(TABLE, KEY)), "a record is the same wherever it lies"
    policy = ClientPolicy.model_validate({"name": "a", "rows": 100, "lifetime_epsilon": 1, "source": source})
    assert ClientPolicy.model_validate(yaml.safe_load(yaml.safe_dump(policy.model_dump(mode="json")))) == policy


def test_every_source_is_here() -> None:
    assert {*WAYS, "images"} == set(Source.BUILT_IN)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_csv_is_read_as_it_is_declared(tmp_path: Path, ending: str, encoding: str) -> None:
    lines = ["name;height;note", 'Zoé;1,75;"a; b"', "Ann;NA; -,5", "Bo;1.000;1e3", ""]
    (tmp_path / "odd.csv").write_bytes(ending.join(lines).encode(encoding))
    frame = read(
        {"kind": "csv", "path": tmp_path / "odd.csv", "delimiter": ";", "decimal": ",", "nulls": ["NA"]}
        | {"encoding": "utf-8" if encoding == "utf-8-sig" else encoding}
    )
    assert frame.to_dict("list") == {
        "name": ["Zoé", "Ann", "Bo"],
        "height": ["1.75", "", "1.000"],
        "note": ["a; b", "-.5", "1e3"],
    }


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "csv", "path": "x", "delimiter": '"'}, "cannot be the delimiter"),
        ({"kind": "csv", "path": "x", "delimiter": ";;"}, "at most 1 character"),
        ({"kind": "csv", "path": "x", "encoding": "utf-9"}, "no encoding 'utf-9'"),
        ({"kind": "sql", "url": "nowhere", "table": "t"}, "not a URL of a database"),
        ({"kind": "sql", "url": "postgresql://me:secret@host/db", "table": "t"}, "no place in a policy"),
        ({"kind": "sql", "url": "sqlite://"}, "either table or query"),
        ({"kind": "sql", "url": "sqlite://", "table": "t", "query": "SELECT 1"}, "either table or query"),
        ({"kind": "folder", "path": "x", "read_as": {"delimitr": ";"}}, "delimitr"),
        ({"kind": "callable", "function": "read"}, "pattern"),
        ({"kind": "several", "sources": []}, "at least 1"),
        ({"kind": "excel", "path": "x"}, "known are csv, parquet, folder, sql, stream, images, callable, several"),
    ],
)
def test_a_source_that_cannot_be_is_refused(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        ClientPolicy.model_validate({"name": "a", "rows": 100, "lifetime_epsilon": 1, "source": tree})
    assert "secret" not in str(refused.value.errors(include_input=False))


@pytest.mark.parametrize(
    ("tree", "kind", "told"),
    [
        ("absent.csv", SourceMissing, "absent.csv cannot be read"),
        ({"kind": "folder", "path": "absent"}, SourceMissing, "no folder with CSV or Parquet files"),
        ({"kind": "sql", "url": "postgresql+psycopg://127.0.0.1:1/db", "table": "t"}, SourceMissing, "does not answer"),
        ({"kind": "sql", "url": "oracle://host/db", "table": "t"}, SourceMissing, "driver of .* is not installed"),
        ({"kind": "sql", "url": "sqlite://", "table": "absent"}, ContractViolated, "refused the SELECT"),
        ({"kind": "callable", "function": "tests.own.tables:absent"}, SourceMissing, "failed: AttributeError"),
        ({"kind": "callable", "function": "tests.own.tables:fails"}, SourceMissing, "failed: RuntimeError"),
        ({"kind": "callable", "function": "tests.own.tables:nothing"}, ContractViolated, "no pandas table, but str"),
    ],
)
def test_a_source_that_is_away_is_named(tree: Any, kind: type[SottovoceError], told: str) -> None:
    source = Source.of(as_tree(tree))
    for ask in (source.read, source.columns):
        with pytest.raises(kind, match=told) as refused:
            ask()
        assert "34" not in str(refused.value)


def test_tables_of_another_shape_are_no_months_of_one(tmp_path: Path) -> None:
    tree = as_folder(tmp_path)
    TABLE.rename(columns={"age": "years"}).to_csv(tmp_path / "months" / "03.csv", index=False, sep=";")
    with pytest.raises(ContractViolated, match="not the same columns: age, years"):
        read(tree)


def test_what_changed_is_seen(tmp_path: Path) -> None:
    tree = as_folder(tmp_path)
    source = Source.of(tree)
    before = source.seen()
    assert source.seen() == before
    TABLE.to_csv(tmp_path / "months" / "03.csv", index=False, sep=";")
    assert source.seen() != before
    watched = Source.of({**as_sqlite(tmp_path), "watch": "SELECT max(age) FROM stays"})
    before = watched.seen()
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute("UPDATE stays SET age = 99 WHERE age = 70")
    connection.close()
    assert watched.seen() != before
    assert Source.of(as_sqlite(tmp_path)).seen() is None, "it has to be read"


def test_images_stand_beside_their_table(tmp_path: Path) -> None:
    (tmp_path / "scans" / "a").mkdir(parents=True)
    for name, shade in (("a/1.png", 10), ("2.png", 200)):
        PIL.Image.new("L", (2, 2), shade).save(tmp_path / "scans" / name)
    (tmp_path / "secret.png").write_bytes((tmp_path / "scans" / "2.png").read_bytes())
    pd.DataFrame({"scan": ["a/1.png", "2.png", "3.png", "../secret.png", ""], "y": range(5)}).to_csv(
        tmp_path / "table.csv", index=False
    )
    tree = {"kind": "images", "path": tmp_path / "scans", "table": str(tmp_path / "table.csv"), "column": "scan"}
    source = Source.of(tree)
    cells = source.read()["scan"].tolist()
    assert [cell is not None for cell in cells] == [True, True, False, False, False], "what lies below, and no other"
    before = source.seen()
    PIL.Image.new("L", (2, 2), 99).save(tmp_path / "scans" / "2.png")
    assert source.seen() != before
    assert source.columns() == ["scan", "y"]
    with pytest.raises(ContractViolated, match="no column photo"):
        read({**tree, "column": "photo"})


CONTRACT = DataContract.model_validate(
    {
        "label": {"column": "died", "positive": ["yes"]},
        "columns": {"age": {"kind": "numeric", "low": 0, "high": 120}},
        "min_rows": 2,
    }
)


@pytest.fixture
def home_of(tmp_path: Path) -> Callable[[Any], Home]:
    def made(source: Any) -> Home:
        policy = {"name": "ward", "rows": 100, "min_rows": 2, "lifetime_epsilon": 1.0, "source": source}
        return Home.create(tmp_path / "home", ClientPolicy.model_validate(policy))

    return made


def taken(home: Home) -> pd.DataFrame:
    snapshot = ingest(home, IngestRequest(contract=CONTRACT), {})[0].snapshot
    return load_snapshot(Home(home.root), snapshot).frame


@pytest.mark.parametrize("kind", WAYS)
def test_a_snapshot_is_taken_of_any_of_them(kind: str, tmp_path: Path, home_of: Callable[[Any], Home]) -> None:
    home = home_of(WAYS[kind](tmp_path))
    frame = taken(home)
    assert sorted(frame["age"]) == [34, 35, 51, 70]
    assert taken(Home(home.root)).equals(frame), "unchanged"


def test_a_changed_row_stays_with_its_person(tmp_path: Path, home_of: Callable[[Any], Home]) -> None:
    tree = {"kind": "csv", "path": as_csv(tmp_path), "key": ["patient"]}
    home = home_of(tree)
    before = taken(home).set_index("age")[PLACE]
    assert before[34] == before[35], "one person"
    assert before.nunique() == 3
    TABLE.replace({"age": {34: 36}}).to_csv(tmp_path / "data.csv", index=False)
    after = taken(Home(home.root)).set_index("age")[PLACE]
    assert after[36] == before[34]


def test_a_key_that_is_no_column_is_refused(tmp_path: Path, home_of: Callable[[Any], Home]) -> None:
    with pytest.raises(ContractViolated, match="the key names nobody, which is no column"):
        taken(home_of({"kind": "csv", "path": as_csv(tmp_path), "key": ["nobody"]}))


def test_a_row_that_is_nobodys_is_left_out_and_its_owner_is_told(
    tmp_path: Path, home_of: Callable[[Any], Home]
) -> None:
    """An answer that told of it would say that there is such a record."""
    TABLE.replace({"patient": {"b": None}}).to_csv(tmp_path / "data.csv", index=False)
    home = home_of({"kind": "csv", "path": str(tmp_path / "data.csv"), "key": ["patient"]})
    assert sorted(taken(home)["age"]) == [34, 35, 70]
    assert "1 rows do not say whose they are" in (home.root / "client.log").read_text()
    with pytest.raises(ContractViolated, match="1 rows do not say whose they are: patient is empty there"):
        home.policy.source.check()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgserver

        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore")
def test_a_table_in_postgresql(postgres: str, tmp_path: Path, home_of: Callable[[Any], Home]) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres)
    statements = [
        "CREATE SCHEMA IF NOT EXISTS ward",
        "CREATE TABLE ward.stays (patient text, age numeric(5, 1), died boolean, seen timestamptz, scan bytea)",
        "INSERT INTO ward.stays VALUES ('a', 34.0, false, '2001-07-04T12:00:00Z', '\\x8950')",
        "INSERT INTO ward.stays VALUES ('b', 51.5, true, NULL, NULL)",
    ]
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    tree = {"kind": "sql", "url": postgres, "table": "ward.stays"}
    frame = read(tree)
    assert texts(frame["age"]).tolist() == ["34", "51.5"]
    assert texts(frame["died"]).tolist() == ["False", "True"]
    assert frame["scan"].tolist() == [b"\x89P", None]
    assert texts(frame["seen"])[1] == ""
    source = Source.of({"kind": "sql", "url": postgres, "query": "SELECT * FROM ward.stays WHERE age > 40"})
    assert len(source.read()) == 1
    contract = {
        "label": {"column": "died", "positive": ["True"]},
        "columns": {"age": {"kind": "numeric", "low": 0, "high": 99}},
    }
    home = home_of({**tree, "key": ["patient"]})
    asked = IngestRequest(contract=DataContract.model_validate({**contract, "min_rows": 2}))
    first = ingest(home, asked, {})[0].snapshot
    assert ingest(Home(home.root), asked, {})[0].snapshot == first
    with engine.begin() as connection:
        connection.execute(text("UPDATE ward.stays SET age = 52 WHERE patient = 'b'"))
    assert ingest(Home(home.root), asked, {})[0].snapshot != first
    engine.dispose()
    with pytest.raises(ContractViolated, match="refused the SELECT: ProgrammingError"):
        read({**tree, "table": "ward.absent"})


def test_lines_that_are_no_records_are_left_out_and_told_to_their_owner(tmp_path: Path) -> None:
    """Never shifted: an unquoted delimiter, a line cut short, a quote that does not close, a break within a field."""
    path = tmp_path / "t.csv"
    path.write_text('a,b,c\n1,2,3\n1,x,y,3\n4,5\n6,"7,8\n9,"1\n0",2\n10,11,12,,\n13,,\n"14",15,"1""6"\n')
    frame = Csv(path=path).read()
    assert frame.to_dict("split")["data"] == [["1", "2", "3"], ["10", "11", "12"], ["13", "", ""], ["14", "15", '1"6']]
    told = "t.csv: 5 lines have not the 3 fields of the header: 3, 4, 5, 6, 7"
    assert frame.attrs[LEFT_OUT] == told
    with pytest.raises(ContractViolated, match=told):
        Csv(path=path).check()
    folder = Folder(kind="folder", path=tmp_path)
    assert folder.read().attrs[LEFT_OUT] == told
    path.write_text("a,b\n1,2\n")
    Csv(path=path).check()
    assert folder.read().attrs == {}


def test_a_stream_stays_the_same_between_its_hours(tmp_path: Path) -> None:
    tree = as_stream(tmp_path)
    store = Outcomes(tree["url"])
    hourly, at_once = Source.of({**tree, "hours": 1}), Source.of({**tree, "hours": 1e-9})
    begun = hourly.seen(), at_once.seen()
    store.keep([Record("c" * 24, 0, "stay", "died", "", 1.0, '{"age": 40, "patient": "z"}')])
    store.take([replace(ONE, id="c" * 24, received=time.time())])
    assert (hourly.seen() == begun[0], at_once.seen() == begun[1]) == (True, False)
    assert (len(hourly.read()), len(at_once.read())) == (len(TABLE), len(TABLE) + 1)
    store.take([replace(ONE, id=f"{0:024x}", outcome="yes", at=900.0)])
    assert hourly.seen() != begun[0], "a correction is told"


def test_a_stream_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    source = Source.of({"kind": "stream", "url": f"sqlite:///{tmp_path}/o.db", "model": "stay"})
    for look in (source.read, source.seen, source.columns):
        with pytest.raises(SourceMissing, match="no outcomes at"):
            look()
    assert list(tmp_path.iterdir()) == []
    store = Outcomes(f"sqlite:///{tmp_path}/o.db")
    store.take([ONE])
    with pytest.raises(ContractViolated, match="no outcome of stay has come yet"):
        source.read()


def test_a_file_is_what_its_name_ends_with_however_that_is_written(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "A.CSV", index=False)
    TABLE.to_parquet(tmp_path / "B.Parquet")
    assert (as_tree(tmp_path / "A.CSV")["kind"], as_tree(tmp_path / "B.Parquet")["kind"]) == ("csv", "parquet")
    assert len(Folder(kind="folder", path=tmp_path).read()) == 2 * len(TABLE)
