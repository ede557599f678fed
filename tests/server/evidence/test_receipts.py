"""Prediction ids say what was said, to their maker alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import ServingError
from server.evidence.receipts import Receipts, prediction_of

TOLD = {7: np.array([[0.25], [0.5]], dtype=np.float32), 8: np.array([[0.75], [1.0]], dtype=np.float32)}


def test_an_id_says_who_answered_what_by_which_shares(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "r.key", "stay")
    told = receipts.made(7, "patient 17", TOLD, b"salt", {6: 0.9, 7: 0.1})
    found = Receipts(tmp_path / "r.key", "stay").read(told)
    assert found
    assert (found.version, found.rows, found.about, found.experiment) == (7, 2, True, b"salt".hex())
    assert found.shares == {6: 0.9, 7: 0.1}
    assert list(found.shares) == [6, 7]
    for version, numbers in TOLD.items():
        np.testing.assert_array_equal(found.told[version], numbers)
    assert found.id == prediction_of(told)
    assert (tmp_path / "r.key").stat().st_mode & 0o777 == 0o600


def test_a_subject_is_one_unit_and_nobody_is_always_another(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "r.key", "stay")

    def unit(subject: str | None) -> str:
        found = receipts.read(receipts.made(7, subject, TOLD))
        assert found
        assert found.about == (subject is not None)
        return found.unit

    assert unit("patient 17") == unit("patient 17") != unit("patient 18")
    assert unit(None) != unit(None)
    assert "patient" not in unit("patient 17")


def test_nobody_else_makes_one_or_reads_it(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "a" / "r.key", "stay")
    told = receipts.made(7, None, TOLD)
    assert Receipts(tmp_path / "b" / "r.key", "stay").read(told) is None
    assert Receipts(tmp_path / "a" / "r.key", "other").read(told) is None
    assert told != receipts.made(7, None, TOLD)
    flipped = [told[:at] + ("A" if told[at] != "A" else "B") + told[at + 1 :] for at in range(0, len(told) - 1, 5)]
    for wrong in (*flipped, told[:-4], told + "AAAA", "", "v7-1", "é" * 40, told.upper()):
        assert receipts.read(wrong) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120))
def test_no_text_breaks_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    assert _receipts(tmp_path_factory).read(text) is None


def test_a_damaged_secret_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.key").write_bytes(b"short")
    with pytest.raises(ServingError, match="holds no secret"):
        Receipts(tmp_path / "r.key", "stay")


_made: list[Receipts] = []


def _receipts(factory: pytest.TempPathFactory) -> Receipts:
    if not _made:
        _made.append(Receipts(factory.mktemp("receipts") / "r.key", "stay"))
    return _made[0]
