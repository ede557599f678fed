"""The plan that a run's configuration makes at one client, from the number of its training rows."""

from __future__ import annotations

from pipeline.config import Privacy, TrainingConfig
from privacy.plan import DPPlan


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
