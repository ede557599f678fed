"""validate: does this snapshot keep the contract? Answered from noisy counts, which are charged like any release.

A check whose outcome were exact would read the data out: its limits come from the coordinator, and a few hundred of
them tell a value. So the client counts, adds discrete Gaussian noise, keeps the noisy counts beside the snapshot, and
grades those. One charge a snapshot and contract; other limits, and the same question again, are answered from the
store. Exact counts are never written down.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from clients.grading import CheckCounts, graded
from clients.home import Home
from clients.ingestion import PLACE, load_snapshot
from clients.planning import afford, checks_of, whole_run
from pipeline.host.files import read_json, write_atomically
from pipeline.language.packing import Blobs
from pipeline.language.protocol import ValidateReply, ValidateRequest
from pipeline.learning.cells import numbers, text_of, texts
from pipeline.learning.columns import Categorical, Column, Numeric
from pipeline.learning.contract import DataContract
from pipeline.learning.features import positives
from privacy.accounting import Release
from privacy.noise import SecureNoise
from privacy.population import EVERYONE

CELLS = 20
"""Even cells of a numeric column between its bounds."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """What is counted in a snapshot: columns and label as an owner's contract has them, where there is one, or a run's.

    Columns and names are counted in sorted order: how a run lists them is no part of the question.
    """

    contract: DataContract

    @property
    def columns(self) -> list[tuple[str, Column]]:
        return sorted(self.contract.columns.items())

    @property
    def digest(self) -> str:
        """Of all that the counts depend on beside the snapshot: declarations, and no limits."""
        asked = [[name, _declared(column)] for name, column in self.columns]
        label = [self.contract.label.column, sorted(map(text_of, self.contract.label.positive))]
        return hashlib.sha256(json.dumps([CELLS, asked, label]).encode()).hexdigest()

    def count(self, home: Home, snapshot: str) -> Integers:
        """Exact counts of the snapshot: one record adds one to one count of each column, to that of positives and to
        that of duplicates."""
        frame = load_snapshot(home, snapshot).frame.drop(columns=PLACE)
        positive = positives(self.contract.label, frame[self.contract.label.column])
        parts = []
        for name, column in self.columns:
            cells = np.zeros((2, width_of(column)), dtype=np.int64)
            np.add.at(cells, (positive.astype(np.int64), _cell_of(column, frame[name])), 1)
            parts.append(cells.reshape(-1))
        copies = frame[[*(name for name, _ in self.columns), self.contract.label.column]].duplicated().sum()
        return np.concatenate([*parts, np.array([positive.sum(), copies], dtype=np.int64)])

    def read(self, counts: Integers, noise: float) -> CheckCounts:
        """The counts by column."""
        tables, at = {}, 0
        for name, column in self.columns:
            width = width_of(column)
            tables[name] = counts[at : at + 2 * width].reshape(2, width).astype(np.float64)
            at += 2 * width
        return CheckCounts(self.contract, tables, float(counts[-2]), float(counts[-1]), noise)


def _declared(column: Column) -> list[object]:
    """A declaration as JSON that is the same in every process."""
    if isinstance(column, Numeric):
        return [column.kind, column.low, column.high, sorted(column.unknown)]
    return [column.kind, names_of(column)]


def names_of(column: Categorical) -> list[str]:
    """The declared names, sorted."""
    return sorted(text_of(name) for name in column.categories)


def validate(home: Home, request: ValidateRequest, blobs: Blobs) -> tuple[ValidateReply, Blobs]:
    """Every check's outcome. Raises BudgetExhausted, ContractRefused, ForbiddenColumn, SourceChanged, SourceMissing."""
    home.permit_data(request.contract, request.contract.holdout)
    home.policy.permit_privacy(request.privacy)
    question = Question(_owned(home, request.contract))
    wanted = checks_of(request.privacy, request.checks.epsilon_share, len(question.columns))
    folder = home.snapshots.current(request.snapshot)
    if not wanted:
        return ValidateReply(outcomes=(), head=home.published_head), {}
    (release,) = wanted
    counts = _answered(folder, question, release)
    if counts is None:
        afford(home.ledger, request.privacy, whole_run(request.privacy), whole_run)  # before the first of its charges
        counts = _counted(home, request.snapshot, folder, question, release)
    noise = counts[1]
    outcomes = tuple(graded(question.read(counts[0], noise), request.checks))
    for outcome in outcomes:
        home.log(f"validate {outcome.check} {outcome.column or '-'}: {outcome.status} ({outcome.measured})")
    return ValidateReply(outcomes=outcomes, head=home.published_head), {}


def width_of(column: Column) -> int:
    """Cells of a column: for numbers those between the bounds, outside and missing; else each name and any other."""
    return CELLS + 2 if isinstance(column, Numeric) else len(column.categories) + 1


def _owned(home: Home, asked: DataContract) -> DataContract:
    """The asked columns as the owner declares them; they mean the same, or the owner had refused."""
    if home.contract is None:
        return asked
    columns = {name: home.contract.columns[name] for name in asked.columns}
    return asked.model_copy(update={"columns": columns, "label": home.contract.label})


def _answered(folder: Path, question: Question, release: Release) -> tuple[Integers, float] | None:
    """Counts of this question that were released before with no more noise than `release` has."""
    best: tuple[Integers, float] | None = None
    for path in folder.glob(f"checks-{question.digest}-*.json"):
        kept = read_json(path)
        noise = float(kept["noise"])
        if noise <= release.noise_multiplier and (best is None or noise < best[1]):
            best = np.array(kept["counts"], dtype=np.int64), noise
    return best


def _counted(home: Home, snapshot: str, folder: Path, question: Question, release: Release) -> tuple[Integers, float]:
    """Reserve, count, keep, commit. A try that was interrupted after its charge is charged again."""
    noise = release.noise_multiplier
    name = hashlib.sha256(f"{snapshot} {question.digest} {noise!r}".encode()).hexdigest()[:32]
    tries = sum(row.kind == "reserve" and row.id.startswith(f"{name}/validate/") for row in home.ledger.rows())
    charge = f"{name}/validate/{tries + 1}"
    home.ledger.reserve(charge, [release], EVERYONE)
    counts = question.count(home, snapshot)
    if noise:
        counts = counts + SecureNoise().discrete_gaussian(noise, len(counts))
    kept = {"counts": counts.tolist(), "noise": noise, "release": asdict(release)}
    write_atomically(folder / f"checks-{question.digest}-{name}.json", json.dumps(kept).encode())
    home.ledger.commit(charge)
    return counts, noise


def _cell_of(column: Column, values: pd.Series) -> npt.NDArray[np.int64]:
    if isinstance(column, Categorical):
        codes = pd.Index(names_of(column), dtype=object).get_indexer(pd.Index(texts(values), dtype=object))
        return np.where(codes < 0, len(column.categories), codes).astype(np.int64)
    raw = numbers(values)
    missing = np.isnan(raw) & bool(column.unknown) | np.isin(raw, column.unknown)
    inside = (raw >= column.low) & (raw <= column.high)
    scaled = (np.where(inside, raw, column.low) - column.low) / (column.high - column.low)
    cell = np.minimum((scaled * CELLS).astype(np.int64), CELLS - 1)
    return np.where(missing, CELLS + 1, np.where(inside, cell, CELLS))
