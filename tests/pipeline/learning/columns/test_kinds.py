"""What every kind of column keeps, whatever stands in its cells."""

import base64
import io
from datetime import datetime
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.learning.columns.boolean import Boolean
from pipeline.learning.columns.categorical import Categorical
from pipeline.learning.columns.column import Column
from pipeline.learning.columns.hashed import Hashed
from pipeline.learning.columns.image import Image
from pipeline.learning.columns.numeric import Numeric
from pipeline.learning.columns.text import Text
from pipeline.learning.columns.time import Time
from pipeline.learning.columns.tokens import Tokens

EVERY: list[Column] = [
    Numeric(kind="numeric", low=-2, high=7, unknown=(9.0,)),
    Numeric(kind="numeric", low=0, high=1, example=0.25),
    Numeric(kind="numeric", low=-3, high=7, scale="log"),
    Numeric(kind="numeric", low=-4, high=7, scale="quantile", edges=(-4, 0, 0, 0, 1, 7)),
    Categorical(kind="categorical", categories=("medical", "1", "true")),
    Categorical.model_validate({"kind": "categorical", "categories": [1, 2, 3], "example": 2}),
    Hashed(kind="hashed", buckets=5),
    Hashed(kind="hashed", example="ward 7"),
    Text(kind="text", buckets=7, ngrams=2),
    Text(kind="text", example="Fell down the stairs"),
    Tokens(kind="tokens", length=3, buckets=5, ngrams=2),
    Tokens(kind="tokens", example="Fell down the stairs"),
    Image.model_validate({"kind": "image", "size": [2, 3]}),
    Image.model_validate({"kind": "image", "size": [1, 1], "channels": 3, "deviation": [2, 2, 4]}),
    Boolean(kind="boolean"),
    Boolean.model_validate({"kind": "boolean", "true": ["yes", 2], "false": ["no", 1], "example": True}),
    Time.model_validate(
        {"kind": "time", "earliest": "2001-01-01", "latest": "2001-12-31T23:59:59", "zone": "Europe/Zurich"}
    ),
    Time.model_validate(
        {
            "kind": "time",
            "earliest": "1990-01-01T00:00:00Z",
            "latest": "2030-01-01T00:00:00Z",
            "zone": "UTC",
            "parts": ["hour", "weekday", "month", "yearday"],
            "example": "2001-07-04T12:30:00Z",
        }
    ),
]


def picture(shade: int, size: tuple[int, int] = (4, 4), form: str = "PNG") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", size, (shade, 255 - shade, 0)).save(out, form)
    return out.getvalue()


PICTURES = [picture(0), picture(200, (1, 2), "JPEG"), picture(7)[:40], base64.b64encode(picture(9)).decode(), b"GIF89a"]
CELL = st.one_of(
    *(st.none(), st.booleans(), st.integers(-12, 12), st.floats(-3, 8), st.floats()),
    st.sampled_from(["", "1", "1.0", "true", "True", "yes", "medical", "9", "nan", "?", "fell, Fell; the stairs"]),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.timezones()),
    st.dates(),
    st.sampled_from(PICTURES),
    st.text(max_size=10),  # nothing a record holds may raise: an error would say that it exists
)
kinds = pytest.mark.parametrize("column", EVERY, ids=lambda column: f"{column.kind}-{EVERY.index(column)}")


def series(cells: list[Any]) -> pd.Series:
    return pd.Series(cells, dtype=object)


def test_every_kind_is_here() -> None:
    assert {type(column) for column in EVERY} == {Column.known(name) for name in Column.BUILT_IN}


@kinds
@given(cells=st.lists(CELL, max_size=12))
def test_what_becomes_of_a_cell_depends_on_that_cell_alone(column: Column, cells: list[Any]) -> None:
    together, counts = column.encoded(series(cells)), column.counted(series(cells))
    assert together.shape == (len(cells), column.width)
    assert together.dtype == np.float32
    assert ((together >= 0) & (together < (column.vocabulary or np.nextafter(1, 2)))).all()
    assert ((counts >= 0) & (counts < column.cells)).all()
    for number, cell in enumerate(cells):
        assert np.array_equal(column.encoded(series([cell]))[0], together[number])
        assert column.counted(series([cell]))[0] == counts[number]
    binned = column.binned(series(cells), 7)
    assert ((binned >= 0) & (binned < column.bins(7))).all()
    assert len(column.bin_names(7)) == column.bins(7)
    for number, cell in enumerate(cells):
        assert column.binned(series([cell]), 7)[0] == binned[number]


@kinds
@given(cells=st.lists(CELL, max_size=12))
def test_a_snapshot_says_what_the_source_said(column: Column, cells: list[Any]) -> None:
    kept = pd.Series(column.typed(series(cells)))
    assert np.array_equal(column.encoded(kept), column.encoded(series(cells)))
    assert np.array_equal(column.counted(kept), column.counted(series(cells)))


@kinds
def test_a_request_says_what_a_table_says(column: Column) -> None:
    jsonschema.validate(column.usual, column.json_schema)
    asked = pd.Series([column.accepted(column.usual)], dtype=column.dtype)
    assert column.counted(asked)[0] != column.broken
    missing = pd.Series([column.accepted(None)], dtype=column.dtype)
    assert np.array_equal(column.encoded(missing), column.encoded(series([None])))
    for wrong in ([1], {"a": 1}, float("inf"), b"1"):
        with pytest.raises(ValueError, match=r"expected .* or null"):
            column.accepted(wrong)


@kinds
def test_a_declaration_survives_being_written_down(column: Column) -> None:
    adapter: TypeAdapter[Column] = TypeAdapter(Column)
    again = adapter.validate_json(adapter.dump_json(column))
    assert again == column
    assert again.declared == column.declared
    assert type(again) is type(column)
    assert column.broken is None or 0 <= column.broken < column.cells
    assert 0 < column.ranking <= column.cells


def test_equal_declarations_mean_the_same() -> None:
    one = Categorical(kind="categorical", categories=("1", "b", "c"))
    assert one.declared == Categorical(kind="categorical", categories=("c", "1.0", "b")).declared
    declared = [repr(column.declared) for column in EVERY]
    assert len(set(declared)) == len(declared)
    assert Numeric(kind="numeric", low=0, high=1, example=0.5).declared == EVERY[1].declared, "an example is none"


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "boolean", "true": ["1"], "false": ["1.0"]}, "a value cannot be true and false: 1"),
        ({"kind": "boolean", "true": [""]}, "a missing value says neither"),
        ({"kind": "boolean", "true": []}, "at least 1"),
        ({"kind": "numeric", "low": 1, "high": 1}, "expected low < high"),
        ({"kind": "categorical", "categories": [1, 1.0]}, "twice: 1"),
        ({"kind": "hashed", "buckets": 1}, "greater than or equal to 2"),
        ({"kind": "boolaen"}, "boolaen"),
        ({"kind": "time", "earliest": "2001-01-01", "latest": "2002-01-01"}, "zone"),
        ({"kind": "time", "earliest": "2001-01-01", "latest": "2002-01-01", "zone": "Mars"}, "no time zone 'Mars'"),
        ({"kind": "time", "earliest": "2001-01-01", "latest": "2001-01-01", "zone": "UTC"}, "earliest < latest"),
        ({"kind": "time", "earliest": "soon", "latest": "2001-01-01", "zone": "UTC"}, "valid datetime"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(Column).validate_python(tree)


def test_truth_is_read_from_whatever_words_it_has() -> None:
    column = Boolean(kind="boolean")
    cells = series([True, "true", 1, "1.0", False, "0", None, "", "perhaps", 2])
    assert column.counted(cells).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert column.encoded(cells).tolist() == [[1, 0]] * 4 + [[0, 0]] * 2 + [[0, 1]] * 4


def test_a_moment_is_where_its_zone_says() -> None:
    summer = Time.model_validate(
        {
            "kind": "time",
            "earliest": "2001-01-01",
            "latest": "2002-01-01",
            "zone": "Europe/Zurich",
            "parts": ["hour"],
        }
    )
    cells = series(["2001-07-04T18:00:00", "2001-07-04T16:00:00+00:00", "2001-07-04T12:00:00-04:00"])
    encoded = summer.encoded(cells)
    assert np.allclose(encoded, encoded[0]), "one moment, whatever it was written in"
    assert encoded[0, 2:] == pytest.approx([0.0, 0.5], abs=1e-6), "six in the evening is three quarters round"
    cells = series(["2000-12-31", "2001-01-01", "2002-01-01T00:00:00", "2002-01-02", "", None, "soon", "0001-01-01"])
    assert summer.counted(cells).tolist() == [20, 0, 19, 20, 21, 21, 20, 20]
    assert summer.encoded(cells)[:, :2].tolist() == [[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 0]]
    assert summer.encoded(series([None])).tolist() == [[0, 1, 0.5, 0.5]]


def test_many_names_share_buckets_that_are_the_same_everywhere() -> None:
    column = Hashed(kind="hashed", buckets=16)
    cells = series([f"diagnosis {number}" for number in range(1000)] + ["", None, 7, "7", 7.0])
    counted = column.counted(cells)
    assert set(counted[:1000].tolist()) == set(range(16))
    assert counted[1000:1002].tolist() == [16, 16]
    assert len(set(counted[1002:].tolist())) == 1, "7 is one name, whatever it was written as"
    assert counted[:4].tolist() == [15, 15, 12, 8], "a bucket never changes: versions that are served depend on it"
    assert column.encoded(cells).sum(axis=1).tolist() == [1] * 1000 + [0, 0, 1, 1, 1]


def test_prose_is_the_words_it_uses() -> None:
    column = Text(kind="text", buckets=64)
    encoded = column.encoded(
        series(["Fell down the stairs.", "the STAIRS, down: fell", "fell fell", "fell", "", "...", None])
    )
    assert np.array_equal(encoded[0], encoded[1]), "in whatever order"
    assert np.array_equal(encoded[2], encoded[3]), "of length one, however long"
    assert np.linalg.norm(encoded, axis=1).tolist() == pytest.approx([1, 1, 1, 1, 0, 0, 0])
    assert column.counted(series(["word", "", "...", None])).tolist() == [0, 1, 1, 1]
    pairs = Text(kind="text", buckets=64, ngrams=2)
    assert not np.array_equal(*pairs.encoded(series(["fell down the stairs", "down the stairs fell"])))
