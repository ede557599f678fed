"""train: one round. Apply the last sum, take the plan's steps, seal the update. Charged before data is touched.

What is sealed is the update times the client's weight, and the weight itself as one more value: the sum of both gives
the weighted mean, and nobody learns how many rows a client has.
"""

from __future__ import annotations

import numpy as np
import torch

from clients.execution import ExecutionState, GlobalModel, blob
from clients.home import Home
from clients.planning import make_plan
from clients.preprocessing import Split, load_split
from pipeline import model as models
from pipeline.protocol import Blobs, TrainReply, TrainRequest, weights_from
from privacy.dpsgd import Optimisation, flat, load_flat, train_round
from privacy.errors import ProtocolError, RoundLost
from privacy.ledger import Population
from privacy.noise import SecureNoise
from privacy.plan import DPPlan, Release, counts_release


def train(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, SumRejected, RoundLost, ProtocolError."""
    state = ExecutionState(home, request.execution)
    key = f"train-{request.round}"
    statement = state.membership.statement("train", request.round, request.attempt)
    holder = state.membership.holder(request.attempt.generation)
    state.refuse_if_closed()
    if (update := state.stored(key, holder)) is not None:
        home.ledger.commit(_charge_id(request))
        return TrainReply(head=home.ledger.head()), {"sealed": holder.seal(update, statement)}
    if home.ledger.has(_charge_id(request)):
        raise RoundLost("this round was charged and then interrupted here; it is not trained twice", travels=True)
    if request.round > request.training.rounds:
        raise ProtocolError(f"round {request.round} of {request.training.rounds}", travels=True)
    split = load_split(home, request.features, "training", request.holdout)
    plan = _plan(state, request, split)
    bound = request.encryption.bound
    before = state.advance(_current(state, request, blobs), request.sums, blobs, bound)

    home.ledger.reserve(_charge_id(request), [plan.round()], split.population)
    module = models.build(request.model, request.spec.width)
    load_flat(module, before.weights)
    elapsed = (request.round - 1) / request.training.rounds
    rate = request.training.learning_rate * (1 - request.training.decay * elapsed)
    optimisation = Optimisation(rate, request.training.momentum)
    features, labels = torch.from_numpy(split.features), torch.from_numpy(split.labels)
    train_round(module, features, labels, plan, optimisation, SecureNoise())
    weight = min(len(split.labels), request.training.weight_cap) / request.training.weight_cap
    weighted = np.append(weight * (flat(module) - before.weights), weight * bound)
    update = holder.quantised(weighted, statement, bound)
    state.store(key, holder, update)
    home.ledger.commit(_charge_id(request))
    return TrainReply(head=home.ledger.head()), {"sealed": holder.seal(update, statement)}


def _charge_id(request: TrainRequest) -> str:
    return f"{request.execution}/train/{request.round}"


def _plan(state: ExecutionState, request: TrainRequest, split: Split) -> DPPlan:
    """The plan fixed in the first round; the whole run, evaluation included, must be affordable before it begins."""
    if plan := state.plan():
        return plan
    plan = make_plan(request.privacy, request.training, len(split.labels))
    wanted: list[tuple[list[Release], Population]] = [([plan.run()], split.population)]
    if request.evaluation_privacy and request.privacy != "none":
        held_out = Population(0.0, request.holdout, split.population.basis)
        wanted.append(([counts_release(request.privacy.epsilon, request.privacy.delta)], held_out))
    state.home.ledger.affords(wanted)
    state.fix_plan(plan)
    return plan


def _current(state: ExecutionState, request: TrainRequest, blobs: dict[str, bytes]) -> GlobalModel:
    if model := state.model():
        return model
    if "initial" not in blobs:
        raise ProtocolError("this client has lost its model of the execution", travels=True)
    count = models.parameter_count(request.model, request.spec.width)
    model = GlobalModel(weights_from(blob(blobs, "initial"), count), 0)
    state.save_model(model)
    return model
