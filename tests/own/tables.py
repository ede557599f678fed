"""Functions that return a table."""

from __future__ import annotations

import pandas as pd

TABLE = pd.DataFrame({"patient": ["a", "a", "b", "c"], "age": [34, 35, 51, 70], "died": ["no", "no", "yes", "no"]})


def read() -> pd.DataFrame:
    return TABLE.copy()


def fails() -> pd.DataFrame:
    raise RuntimeError("patient a is 34")


def nothing() -> str:
    return "no table"
