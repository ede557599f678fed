"""What a cell of a table says: a number, or a text, by its value alone.

A table is a set of records, and no record may decide how another one is read. So the type of a column, which one gap
or one word changes for all its rows, decides nothing: 3, 3.0 and "3.0" are the same cell wherever they stand.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})")
_LONG_WHOLE = re.compile(r"-?[1-9]\d{15,}")
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2})(\.\d+)?([+-]\d{2}:\d{2})?")
_DURATION = re.compile(r"(-?\d+ days?) \+?(\d{2}:\d{2}:\d{2})(\.\d+)?")
_TRUTH = {"True": 1.0, "False": 0.0}
LONGEST_NUMBER = 400
"""Characters; a longer cell holds no number."""


def number_of(value: Any) -> float:
    """The number that a cell holds, NaN where it holds none."""
    if isinstance(value, str):
        stripped = value.strip() if len(value) <= LONGEST_NUMBER else ""
        return float(stripped) if _NUMBER.fullmatch(stripped) else _TRUTH.get(stripped, math.nan)
    if value is None or isinstance(value, bytes | list | dict | datetime.date | datetime.timedelta | np.datetime64):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def text_of(value: Any) -> str:
    """The name that a cell holds, as a contract can list it; empty where it is missing.

    A text that a number is written as (`34.0`, `1e+17`) is that number's name. `007` and `3.10` are no such texts. A
    list or a structure is told by what it holds, whatever others hold in the same place.
    """
    if isinstance(value, str):
        return _text_of_text(value)
    if isinstance(value, dict):
        held = {str(name): text_of(part) for name, part in value.items()}
        return "{" + ", ".join(f"{name}: {text}" for name, text in sorted(held.items()) if text) + "}"
    if isinstance(value, list | tuple | set | np.ndarray):
        return "[" + ", ".join(text_of(part) for part in value) + "]"
    if value is None or _missing(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, bytes):
        return _text_of_text(value.decode("utf-8", "replace"))
    if isinstance(value, datetime.date | np.datetime64):
        return _moment(value)
    if isinstance(value, decimal.Decimal):
        return _text_of_decimal(value)
    if isinstance(value, int | float | np.integer | np.floating):
        try:
            return _text_of_number(float(value))
        except OverflowError:
            return str(value)
    return _text_of_text(str(value))


def numbers(values: pd.Series) -> Numbers:
    """`number_of` each cell, float64."""
    kind = getattr(values.dtype, "kind", "O")
    if kind in "iuf" or kind == "b":
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return _each(values, number_of, np.float64)


def quantities(values: pd.Series) -> Numbers:
    """`number_of` each cell, NaN where it holds nothing, and infinite where it holds something that is no number."""
    found = numbers(values)
    if getattr(values.dtype, "kind", "O") not in "iufb" and (unread := np.isnan(found)).any():
        found = np.where(unread & (texts(values) != ""), np.inf, found)
    return found


def texts(values: pd.Series) -> Texts:
    """`text_of` each cell."""
    return _each(values, text_of, np.object_)


def words_of(values: pd.Series, hashed: Callable[[str], int]) -> npt.NDArray[np.uint64]:
    """A 64-bit word for each cell, equal for equal cells: the bits of a number, else `hashed` of the text."""
    kind = getattr(values.dtype, "kind", "O")
    if kind in "iuf":
        found = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
        if np.isfinite(found).all():
            return np.asarray((found + 0.0).view(np.uint64))  # no negative zero

    def word(value: Any) -> int:
        text = text_of(value)
        number = math.nan if isinstance(value, bool | np.bool_) else number_of(text)
        if text and math.isfinite(number) and _text_of_number(number) == text:
            return int(np.float64(number + 0.0).view(np.uint64))
        return hashed(text)

    return _each(values, word, np.uint64)


def _each(values: pd.Series, read: Callable[[Any], Any], dtype: Any) -> npt.NDArray[Any]:
    """`read` once for each distinct cell."""
    import pandas as pd

    plain = values.astype(object).to_numpy()
    # Most columns hold nothing but texts and gaps: there is nothing to keep apart.
    told_apart = plain if pd.api.types.infer_dtype(plain, skipna=True) == "string" else _distinguished(plain)
    try:
        codes, distinct = pd.factorize(told_apart, use_na_sentinel=False)
    except TypeError:  # cells that are lists or dictionaries
        return np.array([read(value) for value in plain], dtype=dtype)
    known = np.empty(len(distinct), dtype=dtype)
    known[:] = [read(value[1] if isinstance(value, tuple) else value) for value in distinct]
    return np.asarray(known[codes])


def _distinguished(cells: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Cells that Python takes for equal though they say something else (True and 1) kept apart."""
    out = np.empty(len(cells), dtype=object)
    out[:] = [(bool, cell) if isinstance(cell, bool | np.bool_) else cell for cell in cells]
    return out


def _text_of_text(text: str) -> str:
    if not text or len(text) > LONGEST_NUMBER:
        return text
    if _WHOLE.fullmatch(text):
        return text if text != "-0" else "0"
    if _LONG_WHOLE.fullmatch(text):
        return _text_of_number(float(text)) if len(text) < 300 else text
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)) and repr(number) == text:
        return _text_of_number(number)
    # A column is written with hours, fractions or their zeros as soon as one cell of it has some.
    if moment := _MOMENT.fullmatch(text):
        day, hour, fraction, zone = moment.groups()
        rest = f"{hour}{(fraction or '').rstrip('0').rstrip('.')}"
        return day if rest == "00:00:00" and not zone else f"{day}T{rest}{zone or ''}"
    if duration := _DURATION.fullmatch(text):
        days, hour, fraction = duration.groups()
        rest = f"{hour}{(fraction or '').rstrip('0').rstrip('.')}"
        return days if rest == "00:00:00" else f"{days} {rest}"
    return text


def _text_of_decimal(value: decimal.Decimal) -> str:
    """3.10 and 3.100 are one number; the number of digits after the point is the column's."""
    if not value.is_finite():
        return str(value)
    number = float(value)
    if math.isfinite(number) and decimal.Decimal(repr(number)) == value:
        return _text_of_number(number)
    return format(value.normalize(), "f")


def _text_of_number(number: float) -> str:
    if number.is_integer() and abs(number) < 1e300:
        return str(int(number))
    return repr(number)


def _moment(value: Any) -> str:
    import pandas as pd

    return _text_of_text((pd.Timestamp(value) if isinstance(value, np.datetime64) else value).isoformat())


def _missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value)) if pd.api.types.is_scalar(value) else False
