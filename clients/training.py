"""train: one round. Apply the last sum, take the plan's steps, seal the update. Charged before data is touched."""

from __future__ import annotations

import torch

from clients.execution import ExecutionState, GlobalModel, blob
from clients.home import Home
from clients.preprocessing import Split, load_split
from pipeline import model as models
from pipeline.config import Privacy, TrainingConfig
from pipeline.protocol import Blobs, TrainReply, TrainRequest, weights_from
from privacy.cipher import Statement
from privacy.dpsgd import Optimisation, flat, load_flat, train_round
from privacy.errors import ProtocolError, RoundLost
from privacy.ledger import Population
from privacy.noise import SecureNoise
from privacy.plan import DPPlan, Release, counts_release
from privacy.quantise import Quantiser


def train(home: Home, request: TrainRequest, blobs: dict[str, bytes]) -> tuple[TrainReply, Blobs]:
    """Raises BudgetExhausted, PlanInvalid, CohortTooSmall, SumRejected, RoundLost, ProtocolError."""
    state = ExecutionState(home, request.execution)
    key = f"train-{request.round}"
    state.refuse_if_closed()
    if stored := state.stored_reply(key):
        home.ledger.commit(_charge_id(request))
        return TrainReply(head=home.ledger.head()), stored
    if home.ledger.has(_charge_id(request)):
        raise RoundLost("this round was charged and then interrupted here; it is not trained twice", travels=True)
    if request.round > request.training.rounds:
        raise ProtocolError(f"round {request.round} of {request.training.rounds}", travels=True)
    home.policy.permit_cohort(request.cohort)
    split = load_split(home, request.features, "training", request.holdout)
    plan = _plan(state, request, split)
    quantiser = Quantiser(request.encryption.bound, request.cohort)
    before = state.advance(_current(state, request, blobs), request.sums, blobs, quantiser)

    home.ledger.reserve(_charge_id(request), [plan.round()], split.population)
    source = SecureNoise()
    module = models.build(request.model, request.spec.width)
    load_flat(module, before.weights)
    elapsed = (request.round - 1) / request.training.rounds
    rate = request.training.learning_rate * (1 - request.training.decay * elapsed)
    optimisation = Optimisation(rate, request.training.momentum)
    train_round(module, torch.from_numpy(split.features), torch.from_numpy(split.labels), plan, optimisation, source)
    slots = quantiser.encode(flat(module) - before.weights, source)
    sealed = state.holder.seal(slots, Statement(request.execution, "train", request.round), home.policy.name)
    state.store_reply(key, sealed)
    home.ledger.commit(_charge_id(request))
    return TrainReply(head=home.ledger.head()), {"sealed": sealed}


def make_plan(privacy: Privacy, training: TrainingConfig, examples: int) -> DPPlan:
    """The plan of a whole run at a client with `examples` training rows. Raises PlanInvalid."""
    if privacy == "none":
        return DPPlan.non_private(
            examples=examples,
            expected_batch=training.expected_batch,
            epochs=training.local_epochs,
            rounds=training.rounds,
        )
    return DPPlan.calibrated(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        examples=examples,
        expected_batch=training.expected_batch,
        epochs=training.local_epochs,
        rounds=training.rounds,
        clipping_norm=privacy.clipping_norm,
    )


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
