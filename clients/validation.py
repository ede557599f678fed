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

from clients.grading import CheckCounts, graded
from clients.home import Home
from clients.ingestion import PLACE, basis_of_snapshot, load_snapshot
from clients.release import by_itself
from pipeline.host.files import read_json, write_atomically
from pipeline.language.lines import validation_line
from pipeline.language.packing import Blobs
from pipeline.language.protocol import ValidateReply, ValidateRequest
from pipeline.language.spending import Spending, by_person, training_rows
from pipeline.learning.columns.bounded import CELLS
from pipeline.learning.columns.column import Column
from pipeline.learning.contract import DataContract
from privacy.accounting import Release
from privacy.noise import Integers, SecureNoise
from privacy.population import EVERYONE, Charge
from privacy.sampling import one_of_each


@dataclass(frozen=True)
class Question:
    """What is counted in a snapshot: columns and label as an owner's contract has them, where there is one, or a run's.

    Columns and names are counted in sorted order: how a run lists them is no part of the question.
    """

    contract: DataContract
    one_a_person: bool = False

    @property
    def columns(self) -> list[tuple[str, Column]]:
        return sorted(self.contract.columns.items())

    @property
    def digest(self) -> str:
        """Of all that the counts depend on beside the snapshot: declarations, and no limits."""
        asked = [[name, column.declared] for name, column in self.columns]
        whom = ["one a person"] if self.one_a_person else []
        return hashlib.sha256(
            json.dumps([CELLS, self.contract.task.groups, asked, self.contract.task.declared, *whom]).encode()
        ).hexdigest()

    def count(self, home: Home, snapshot: str) -> Integers:
        """Exact counts of the snapshot: one record adds one to one count of each column, to that of its group of
        outcomes unless it is the first, and to that of duplicates."""
        frame, task = load_snapshot(home, snapshot).frame, self.contract.task
        if self.one_a_person:
            persons = np.unique(frame[PLACE].to_numpy(), return_counts=True)[1]
            frame = frame.iloc[one_of_each(persons, SecureNoise())]
        frame = frame.drop(columns=PLACE)
        groups = task.grouped(frame[task.column])
        parts = []
        for name, column in self.columns:
            cells = np.zeros((task.groups, column.cells), dtype=np.int64)
            np.add.at(cells, (groups, column.counted(frame[name])), 1)
            parts.append(cells.reshape(-1))
        copies = frame[[*(name for name, _ in self.columns), task.column]].duplicated().sum()
        sizes = np.bincount(groups, minlength=task.groups)[1:]
        return np.concatenate([*parts, sizes, np.array([copies])]).astype(np.int64)

    def read(self, counts: Integers, noise: float) -> CheckCounts:
        """The counts by column."""
        tables, at, groups = {}, 0, self.contract.task.groups
        for name, column in self.columns:
            end = at + groups * column.cells
            tables[name] = counts[at:end].reshape(groups, column.cells).astype(np.float64)
            at = end
        return CheckCounts(self.contract, tables, counts[at:-1].astype(np.float64), float(counts[-1]), noise)


def validate(home: Home, request: ValidateRequest, blobs: Blobs) -> tuple[ValidateReply, Blobs]:
    """Every check's outcome. Raises BudgetExhausted, ContractRefused, ForbiddenColumn, SourceChanged, SourceMissing."""
    home.permit_data(request.contract, request.contract.holdout)
    home.policy.permit_privacy(request.privacy)
    question = Question(_owned(home, request.contract), by_person(request.privacy))
    line = validation_line(request.privacy, request.contract, request.checks.epsilon_share)
    rows = training_rows(home.policy.units_declared(request.privacy), request.contract.holdout)
    spending = Spending(request.privacy, request.lines, rows)
    spending.demand(line)
    folder = home.snapshots.current(request.snapshot)
    if line is None:
        return ValidateReply(outcomes=(), head=home.published_head), {}
    release = spending.release(line.purpose)
    counts = _answered(folder, question, release)
    if counts is None:
        spending.afford(home.ledger, request.contract.holdout, basis_of_snapshot(folder))  # before its first charge
        counts = _counted(home, request.snapshot, folder, question, release)
    noise = counts[1]
    outcomes = tuple(graded(question.read(counts[0], noise), request.checks))
    for outcome in outcomes:
        home.log(f"validate {outcome.check} {outcome.column or '-'}: {outcome.status} ({outcome.measured})")
    return ValidateReply(outcomes=outcomes, head=home.published_head), {}


def _owned(home: Home, asked: DataContract) -> DataContract:
    """The asked columns as the owner declares them; they mean the same, or the owner had refused."""
    if home.contract is None:
        return asked
    columns = {name: home.contract.columns[name] for name in asked.columns}
    return asked.model_copy(update={"columns": columns, "task": home.contract.task})


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
    """New noisy counts, kept beside the snapshot."""
    noise = release.noise_multiplier
    name = hashlib.sha256(f"{snapshot} {question.digest} {noise!r}".encode()).hexdigest()[:32]

    def make() -> Integers:
        counts = question.count(home, snapshot)
        return counts + SecureNoise().discrete_gaussian(noise, len(counts)) if noise else counts

    def store(counts: Integers) -> None:
        kept = {"counts": counts.tolist(), "noise": noise, "release": asdict(release)}
        write_atomically(folder / f"checks-{question.digest}-{name}.json", json.dumps(kept).encode())

    return by_itself(home, f"{name}/validate", Charge([release], EVERYONE), make, store), noise
