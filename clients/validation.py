"""validate: does this snapshot keep the contract? The coordinator hears outcomes, never numbers or values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa

from clients.home import Home
from clients.ingestion import PLACE, load_snapshot
from pipeline.config import ValidationConfig
from pipeline.contract import DataContract, Numeric
from pipeline.packing import Blobs
from pipeline.protocol import Outcome, ValidateReply, ValidateRequest

Status = Literal["ok", "warn", "fail"]


def validate(home: Home, request: ValidateRequest, blobs: Blobs) -> tuple[ValidateReply, Blobs]:
    """Every check's outcome; the numbers behind them go to the client's own log."""
    frame = load_snapshot(home, request.snapshot).frame.drop(columns=PLACE)
    outcomes = []
    for outcome, number in _checks(frame, request.contract, request.checks):
        outcomes.append(outcome)
        home.log(f"validate {outcome.check} {outcome.column or '-'}: {outcome.status} ({number:.5f})")
    return ValidateReply(outcomes=tuple(outcomes)), {}


def _checks(frame: pd.DataFrame, contract: DataContract, limits: ValidationConfig) -> Iterator[tuple[Outcome, float]]:
    for name, bad in _contract_failures(frame, contract).items():
        numeric = isinstance(contract.columns[name], Numeric)
        limit = limits.out_of_bounds if numeric else limits.unknown_categories
        check = "bounds" if numeric else "categories"
        yield Outcome(check=check, status=_graded(bad, limit), column=name), bad
    positive = frame[contract.label.column].isin(contract.label.positive)
    minority = float(min(positive.mean(), 1 - positive.mean()))
    balance: Status = "fail" if minority == 0 else "warn" if minority < limits.minority_share else "ok"
    yield Outcome(check="label-balance", status=balance, column=contract.label.column), minority
    copies = float(frame.duplicated().mean())
    yield Outcome(check="duplicates", status="warn" if copies > limits.duplicates else "ok"), copies
    if minority > 0:
        for name in contract.columns:
            power = _ranking_power(frame[name], positive.to_numpy())
            status: Status = "fail" if power >= limits.leakage else "ok"
            yield Outcome(check="leakage", status=status, column=name), power


def _graded(fraction: float, limit: float) -> Status:
    return "fail" if fraction > limit else "warn" if fraction > 0 else "ok"


def _contract_failures(frame: pd.DataFrame, contract: DataContract) -> dict[str, float]:
    """Fraction of each column's values that break their declaration."""
    schema = pa.DataFrameSchema(
        {
            name: pa.Column(
                nullable=isinstance(column, Numeric) and bool(column.unknown),
                checks=_within(column) if isinstance(column, Numeric) else pa.Check.isin(list(column.categories)),
            )
            for name, column in contract.columns.items()
        }
    )
    bad = dict.fromkeys(contract.columns, 0.0)
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for name, count in cases.groupby("column")["index"].nunique().items():
            bad[str(name)] = float(count) / len(frame)
    return bad


def _within(column: Numeric) -> pa.Check:
    def declared(values: pd.Series) -> pd.Series:
        return values.between(column.low, column.high) | values.isin(column.unknown)

    return pa.Check(declared, name="declared bounds")


def _ranking_power(values: pd.Series, positive: npt.NDArray[np.bool_]) -> float:
    """ROC-AUC of the label ranked by this column alone, in its better direction.

    Names are ranked by their positive share, computed on the other half of the rows: a column of rare names is
    otherwise its own answer.
    """
    if pd.api.types.is_numeric_dtype(values):
        auc = _auc(values.fillna(values.median()).fillna(0.0).rank().to_numpy(dtype=np.float64), positive)
        return max(auc, 1 - auc)
    half = np.arange(len(values)) % 2 == 0
    share = pd.Series(positive[half]).groupby(values.to_numpy()[half]).mean()
    scores = values[~half].map(share).fillna(positive.mean()).to_numpy()
    return _auc(pd.Series(scores).rank().to_numpy(dtype=np.float64), positive[~half])


def _auc(ranks: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_]) -> float:
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return 0.5
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
