"""design: can this model be made, trained record by record, and served? Found out before anybody is asked."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import PROBED
from pipeline.stages.values import Design


@stage(produces="design", place="here", resources=None)
def design(data: DataContract, model: Model, training: TrainingConfig) -> Design:
    """Raises KindUnfit, PlanInvalid. Layers that are known to be sound are not tried."""
    spec = FeatureSpec.of(data)
    net = model.net(spec.shape, spec.task.outputs, training.seed)
    if not net.checked:
        import torch

        from privacy.probing import probe

        initial = net.initial()
        probe(net.module(initial), torch.from_numpy(net.examples(PROBED)), spec.task.outputs)
        net.files(initial)
    return Design(parameters=net.parameters, frozen=net.frozen)
