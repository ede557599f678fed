"""evaluate: how the revealed model does on the held-out rows, as a sealed vector of noisy whole numbers.

The task's question says what is counted, and how much one record adds to it at most. Every metric follows from the sum
of the vectors.
"""

from __future__ import annotations

from clients.asking import Asked, answer
from clients.execution import ExecutionState, blob
from clients.home import Home
from clients.preprocessing import find_features
from pipeline.language.lines import evaluation_line
from pipeline.language.packing import Blobs, weights_from
from pipeline.language.protocol import CountsReply, EvaluateRequest
from pipeline.language.spending import Spending, by_person, training_rows
from pipeline.learning.models.net import Weights
from pipeline.learning.queries.query import Rows
from privacy.errors import ProtocolError
from privacy.noise import Integers, SecureNoise
from privacy.statement import basis_of


def evaluate(home: Home, request: EvaluateRequest, blobs: dict[str, bytes]) -> tuple[CountsReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, RoundLost, LedgerRolledBack, ProtocolError."""
    task = request.spec.task
    net = request.model.net(request.spec.shape, task.outputs, request.training.seed)
    question = task.question(request.evaluation.bins)
    home.policy.permit_model(net.parameters)
    home.policy.permit_privacy(request.privacy)
    state = ExecutionState(home, request.execution)
    home.show_ledger(request.seen)
    features = find_features(home, request.features, request.spec, request.holdout)
    rows = training_rows(home.policy.units_declared(request.privacy), request.holdout)
    spending = Spending(request.privacy, request.lines, rows, request.shares)

    def prepare() -> Weights:
        content = blob(blobs, "weights")
        if basis_of(content) != request.basis:
            raise ProtocolError("the weights are not those that the request names", travels=True)
        return weights_from(content, net.parameters)

    def count(weights: Weights) -> Integers:
        split = features.split("held-out", request.holdout)
        if by_person(request.privacy):
            split = split.one_a_person(SecureNoise())
        return question.count(Rows(split.targets), task.predictions(net.outputs(weights, split.features)))

    asked = Asked(
        purpose="evaluate",
        norm=question.norm,
        line=evaluation_line(request.privacy, question),
        basis=request.basis,
        attempt=request.attempt,
        population=features.population("held-out", request.holdout),
    )
    sealed, noise = answer(state, spending, asked, prepare, count)
    return CountsReply(head=home.published_head, noise=noise), {"sealed": sealed}
