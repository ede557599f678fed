"""How the sum of a round becomes part of the model, at every client alike: as it was fixed in the first round."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from clients.execution import Applied, ExecutionState, GlobalModel
from pipeline.kinds import Frozen
from pipeline.language.protocol import SumRef
from pipeline.language.settings.training import Server
from pipeline.language.stepping import Moments, stepped
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Weights
from pipeline.learning.models.summing import Summing
from privacy.errors import ProtocolError, SumRejected


class Updates(Frozen):
    """The sum is of weighted updates, and of their weights. bound: clip of each coordinate."""

    of: Literal["updates"] = "updates"
    bound: float
    server: Server

    def applied(self, state: ExecutionState) -> Applied:
        """By the server's step by the weighted mean. It raises CohortTooSmall, SumRejected, ProtocolError."""

        def apply(model: GlobalModel, ref: SumRef, sealed: bytes) -> tuple[Weights, Moments]:
            total = state.open_values(ref, sealed, "train", len(model.weights) + 1, self.bound)
            weight = total[-1] / self.bound
            if weight <= 0:
                raise SumRejected("the weights of the sum are not positive", travels=True)
            step, moments = stepped(self.server, total[:-1] / weight, model.moments)
            return (model.weights.astype(np.float64) + step).astype(np.float32), moments

        return apply


class Counts(Frozen):
    """The sum is of whole numbers that a model asked for. noise: deviation in those of one client."""

    of: Literal["counts"] = "counts"
    model: Model
    spec: FeatureSpec
    seed: int
    noise: float

    @property
    def net(self) -> Summing:
        """Raises ProtocolError for a model that takes local steps."""
        made = self.model.net(self.spec.shape, self.spec.task.outputs, self.seed)
        if not isinstance(made, Summing):
            raise ProtocolError(f"model {self.model.kind} asks for no sums", travels=True)
        return made

    def applied(self, state: ExecutionState) -> Applied:
        """By what the model makes of it. It raises CohortTooSmall, SumRejected, ProtocolError."""
        net, task = self.net, self.spec.task

        def apply(model: GlobalModel, ref: SumRef, sealed: bytes) -> tuple[Weights, Moments]:
            size = net.size(task, net.steps(model.weights), ref.round)
            total = state.open_counts(ref, sealed, "train", size)
            try:
                noise = self.noise * math.sqrt(len(ref.clients))
                return net.advance(task, model.weights, total, noise, ref.round), ()
            except ValueError as error:
                raise SumRejected(f"the sum is of no records: {error}", travels=True) from error

        return apply


def opening_of(tree: dict[str, Any], allowed_kinds: Collection[str]) -> Updates | Counts:
    """What was fixed, read again."""
    kind = Counts if tree["of"] == "counts" else Updates
    return kind.model_validate(tree, context={"allowed_kinds": tuple(allowed_kinds)})
