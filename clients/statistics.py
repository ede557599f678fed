"""statistics: how each column is distributed in the training rows, as a sealed vector of noisy whole numbers.

The question follows from the contract and the number of bins; the coordinator cannot name another one. Held-out rows
take no part: whatever is fitted to the answer has not seen what judges it.
"""

from __future__ import annotations

import numpy as np

from clients.asking import Asked, answer
from clients.execution import ExecutionState
from clients.home import Home
from clients.ingestion import PLACE, basis_of_snapshot, load_snapshot
from pipeline.language.lines import statistics_line
from pipeline.language.packing import Blobs
from pipeline.language.protocol import CountsReply, StatisticsRequest
from pipeline.language.spending import Spending, by_person, training_rows
from pipeline.learning.queries.query import Rows
from privacy.errors import ProtocolError
from privacy.noise import Integers, SecureNoise
from privacy.sampling import one_of_each
from privacy.statement import basis_of


def statistics(home: Home, request: StatisticsRequest, blobs: Blobs) -> tuple[CountsReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, RoundLost, ContractRefused, SourceChanged, ProtocolError."""
    contract = request.contract
    home.permit_data(contract, contract.holdout)
    home.policy.permit_privacy(request.privacy)
    question = contract.distribution(request.statistics.bins)
    line = statistics_line(request.privacy, question, request.statistics.epsilon_share)
    if line is None:
        raise ProtocolError("statistics that the run does not pay for", travels=True)
    state = ExecutionState(home, request.execution)
    home.show_ledger(request.seen)
    folder = home.snapshots.current(request.snapshot)
    basis = basis_of_snapshot(folder)
    rows = training_rows(home.policy.units_declared(request.privacy), contract.holdout)
    spending = Spending(request.privacy, request.lines, rows, request.shares)

    def prepare() -> None:
        spending.afford(home.ledger, contract.holdout, basis, since=line.purpose)

    def count(_: None) -> Integers:
        frame = load_snapshot(home, request.snapshot).frame
        frame = frame[frame[PLACE] >= contract.holdout]
        if by_person(request.privacy):
            persons = np.unique(frame[PLACE].to_numpy(), return_counts=True)[1]
            frame = frame.iloc[one_of_each(persons, SecureNoise())]
        nothing = np.zeros(len(frame), dtype=np.float32)
        groups = contract.task.grouped(frame[contract.task.column])
        return question.count(Rows(nothing, frame.drop(columns=PLACE), groups), nothing.astype(np.float64))

    asked = Asked(
        purpose="statistics",
        norm=question.norm,
        line=line,
        basis=basis_of(question.model_dump_json().encode()),
        attempt=request.attempt,
        population=line.population(contract.holdout, basis),
    )
    sealed, noise = answer(state, spending, asked, prepare, count)
    return CountsReply(head=home.published_head, noise=noise), {"sealed": sealed}
