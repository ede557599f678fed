"""No record decides how another one is read: chain(D + x) is chain(D) and chain(x), whatever x is.

Otherwise the one record that differential privacy hides would move hundreds. The chain is everything up to training:
the source as it is read, the places, the features, the labels.
"""

import io
import math
import time
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clients import ingestion
from clients.places import basis_of_places, places
from clients.sources.source import Source, as_tree
from pipeline.language.config import Config
from pipeline.learning.features import FeatureSpec
from tests.support import configured

KEY = bytes(range(16))
BASE: list[dict[str, Any]] = [
    {"age": 34, "lab": 5, "unit": 1, "died": 1, "note": "a"},
    {"age": 71, "lab": 7, "unit": 2, "died": 0, "note": "b"},
    {"age": 18, "lab": -1, "unit": 3, "died": 1, "note": "1"},
    {"age": 95, "lab": 12, "unit": 2, "died": 0, "note": "007"},
]
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from(
        ["", " ", "nan", "inf", "None", "1", "1.0", "1e5", "007", "3.10", "TRUE", '"', "a,b", "x\ny", "NA"]
    ),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=8),
    st.datetimes(min_value=pd.Timestamp("1990-01-01"), max_value=pd.Timestamp("2100-01-01")).map(pd.Timestamp),
)
RECORD = st.fixed_dictionaries(dict.fromkeys(BASE[0], STRANGE))


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The label is 1; units are numbers taken as names."""
    return configured(
        tmp_path_factory.mktemp("c") / "t.parquet",
        data__label={"column": "died", "positive": ["1"]},
        data__columns__unit={"kind": "categorical", "categories": [1, 2, 3]},
        data__columns__note={"kind": "boolean", "true": ["a", "1"], "false": ["b", "007"]},
    )


def as_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    """As pandas makes a table of them: one gap makes a column fractional, one word makes it text."""
    frame = pd.DataFrame(rows)
    try:
        frame.to_parquet(path.with_suffix(".parquet"))
    except (
        ValueError,
        TypeError,
        OverflowError,
        pd.errors.OutOfBoundsDatetime,
    ):  # a column of mixed types is no column
        mixed = {
            name: [None if value is None or value is pd.NaT else str(value) for value in frame[name]]
            for name in frame
            if frame[name].dtype == object
        }
        frame.assign(**mixed).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_csv(rows: list[dict[str, Any]], path: Path) -> Path:
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def chain(path: Path, config: Config) -> Counter[tuple[object, ...]]:
    """Every record as place, label and features."""
    source = Source.of(as_tree(path)).read()
    ingestion.check_columns(source, config.data)
    frame = ingestion._typed(source, config.data)
    spec = FeatureSpec.of(config.data)
    features, labels = spec.matrix(frame), spec.targets(frame)
    at = places(source, KEY)
    assert np.isfinite(features).all()
    known = [None if math.isnan(label) else float(label) for label in labels]
    return Counter((place, label, *map(float, row)) for place, label, row in zip(at, known, features, strict=True))


@pytest.mark.parametrize("write", [as_parquet, as_csv])
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stranger=RECORD)
@example(stranger={"age": None, "lab": None, "unit": None, "died": None, "note": None})
@example(stranger={"age": 1.5, "lab": math.inf, "unit": 2.5, "died": 0.5, "note": 1.0})
@example(stranger={"age": 10**19, "lab": -math.inf, "unit": "two", "died": "yes", "note": True})
@example(stranger={"age": "old", "lab": "", "unit": "1.0", "died": "1.0", "note": 7})
def test_a_record_moves_no_other(tmp_path: Path, contract: Config, write: Any, stranger: dict[str, Any]) -> None:
    alone = chain(write(BASE, tmp_path / "d"), contract)
    stranger = {name: stranger[name] for name in BASE[0]}
    other = chain(write([stranger], tmp_path / "x"), contract)
    both = chain(write([*BASE, stranger], tmp_path / "dx"), contract)
    assert both == alone + other


@pytest.mark.parametrize(
    "line",
    [
        b"34,5,1,1,M\xfcller",  # another encoding
        b"\xff\xfe,\x00,1,1,x",
        b"34,5,1,1,x,one,field,too,many",
        b"34,5",
        b"34;5;1;1;x",
        b" 34 , 5 , 1 , 1 , x ",
        b'34,5,1,1,"never closed',
        b'34,5,1,1,"a"b"',
        b'34,5,1,1,"' + b"x" * 200_000 + b'"',
        b'34,"5",1,1\r,x',
        "34,5,1,1,x".encode("utf-16"),
        b"34,5,1," + b"1" * 300_000 + b"x,y",
        b"1 days,2020-01-01 10:00:00,1,1,x",
        b'34,5,1,1,"quoted, with comma"',
    ],
)
def test_a_line_that_is_odd_moves_no_other(tmp_path: Path, contract: Config, line: bytes) -> None:
    header = b"age,lab,unit,died,note\n"
    content = io.StringIO()
    pd.DataFrame(BASE).to_csv(content, index=False, header=False)
    known = content.getvalue().encode()

    def read(name: str, *parts: bytes) -> Counter[tuple[object, ...]]:
        path = tmp_path / f"{name}.csv"
        path.write_bytes(header + b"".join(parts))
        return chain(path, contract)

    alone, other = read("d", known), read("x", line + b"\n")
    assert read("dx", known, line + b"\n") == alone + other
    assert read("xd", line + b"\n", known) == alone + other, "also where it comes first"


S, NS, DAY = pa.timestamp("s"), pa.timestamp("ns"), pa.date32()
ODD: dict[str, tuple[pa.DataType, list[Any], pa.DataType, Any]] = {
    "decimals": (pa.decimal128(9, 2), [Decimal("3.10"), None], pa.decimal128(9, 3), Decimal("1.234")),
    "lists": (pa.list_(pa.int64()), [[1, 2], []], pa.list_(pa.float64()), [None, 0.5]),
    "structures": (pa.struct({"a": pa.int64()}), [{"a": 1}, None], pa.struct({"a": pa.float64(), "b": S}), {"a": None}),
    "fractions": (
        S,
        [datetime(2020, 1, 1, 10), datetime(2020, 1, 1)],
        NS,
        pd.Timestamp("2020-01-01 10:00:00.000000001"),
    ),
    "days": (DAY, [date(2020, 1, 1), None], DAY, 10**9),
    "zones": (pa.timestamp("us", "UTC"), [datetime(2020, 1, 1), None], pa.timestamp("s", "Europe/Berlin"), 10**13),
    "spans": (pa.duration("s"), [86_400, 1], pa.duration("us"), 1),
    "times": (pa.time32("s"), [1, None], pa.time64("ns"), 3_600_000_000_000),
    "numbers": (pa.int64(), [1, 2**40], pa.float64(), math.nan),
    "small numbers": (pa.int8(), [1, None], pa.uint64(), 2**63),
    "truths": (pa.bool_(), [True, None], pa.string(), "maybe"),
    "dictionaries": (pa.dictionary(pa.int8(), pa.string()), ["a", None], pa.string(), "b"),
    "nothing": (pa.null(), [None, None], pa.string(), "b"),
}


def as_table(kind: pa.DataType, cells: list[Any], path: Path) -> Path:
    """Known columns, and an odd one that no contract has, but that every place is computed from."""
    columns = {name: [row[name] for row in BASE[: len(cells)]] for name in BASE[0]}
    try:
        odd = pa.array(cells, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        odd = pa.array(cells, pa.int32() if kind == DAY else pa.int64()).cast(kind)
    pq.write_table(pa.table({**columns, "odd": odd}), path)
    return path


@pytest.mark.parametrize("what", ODD)
def test_a_type_that_one_record_needs_moves_no_other(tmp_path: Path, contract: Config, what: str) -> None:
    narrow, cells, wide, stranger = ODD[what]
    alone = chain(as_table(narrow, cells, tmp_path / "d.parquet"), contract)
    known = list(cells)
    if what == "truths":
        known = [None if cell is None else str(cell) for cell in cells]
    if what == "days":
        known = [None if cell is None else (cell - date(1970, 1, 1)).days for cell in cells]
    if what == "zones":
        known = [None if cell is None else int(cell.replace(tzinfo=UTC).timestamp()) for cell in cells]
    if what == "spans":
        known = [cell * 10**6 for cell in cells]
    if what == "times":
        known = [None if cell is None else cell * 10**9 for cell in cells]
    both = chain(as_table(wide, [*known, stranger], tmp_path / "dx.parquet"), contract)
    assert sum((both - alone).values()) == 1
    assert not alone - both


def test_a_text_that_is_none_moves_no_other(tmp_path: Path, contract: Config) -> None:
    """Parquet does not look whether a text is UTF-8."""
    alone = chain(as_table(pa.string(), ["a", "b"], tmp_path / "d.parquet"), contract)
    broken = pa.array([b"a", b"b", b"\xff\xfe"], pa.binary()).view(pa.string())
    columns = {name: [row[name] for row in BASE[:3]] for name in BASE[0]}
    pq.write_table(pa.table({**columns, "odd": broken}), tmp_path / "dx.parquet")
    both = chain(tmp_path / "dx.parquet", contract)
    assert sum((both - alone).values()) == 1
    assert not alone - both


def test_one_long_cell_holds_nobody_up(tmp_path: Path, contract: Config) -> None:
    """A pattern that looks back, or a table as wide as its longest cell, would tell by time and memory."""
    for long in ("9" * 200_000 + "x", "1" * 2_000_000):
        rows = [*BASE, {**BASE[0], "age": long, "died": long, "unit": long}]
        begun = time.monotonic()
        chain(as_csv(rows, tmp_path / "long"), contract)
        assert time.monotonic() - begun < 5


def test_the_basis_is_the_names_of_the_columns(tmp_path: Path) -> None:
    one, other = pd.DataFrame(BASE), pd.DataFrame([*BASE, dict.fromkeys(BASE[0])])
    assert basis_of_places(one) == basis_of_places(other)
    assert basis_of_places(one) == basis_of_places(one[sorted(one.columns)])
    assert basis_of_places(one) != basis_of_places(one.rename(columns={"note": "word"}))


def test_a_table_without_rows_is_a_table(tmp_path: Path, contract: Config) -> None:
    path = tmp_path / "none.csv"
    path.write_text("age,lab,unit,died,note\n")
    assert chain(path, contract) == Counter()
