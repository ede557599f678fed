"""audit: can the promise of the job be refuted? A replica of it is trained on made-up records and attacked.

Nobody's data is read, nothing is charged, and what is found holds for the code and the plan, not for a data set. What
is refuted fails the run before anything is registered; what is not refuted is not proved.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.engine.graph import stage
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.settings.audit import AuditConfig
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.federation import FederationConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.language.spending import Spending, training_rows
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import PROBED, Net
from pipeline.learning.tasks.task import Task
from pipeline.stages.values import AuditReport, Design, Guessed, MembershipAttack
from privacy.accounting import epsilon_of
from privacy.errors import ClaimRefuted
from privacy.plan import DPPlan

GUESSED = (1.0, 0.05)
"""Parts of the canaries about which guesses are made: about all, which shows most where there is no noise, and about
those where it is clearest, which shows most where there is. They are decided here, and pay for one another: each has
to be surer than the audit is."""


@stage(produces="audit_report", place="here", resources=None)
def audit(
    design: Design,
    data: DataContract,
    model: Model,
    privacy: Privacy,
    encryption: EncryptionConfig,
    federation: FederationConfig,
    training: TrainingConfig,
    lines: Lines,
    audit: AuditConfig,
) -> AuditReport:
    """Nothing where nobody asks. Raises ClaimRefuted, PlanInvalid."""
    if not audit.enabled:
        return AuditReport()
    report = audited(data, model, privacy, encryption, federation.min_cohort, training, lines, audit)
    if report.refuted:
        raise ClaimRefuted(
            report.text,
            remedy="Do not use what was trained so: find what is broken in the training path, and report it.",
        )
    return report


def audited(
    data: DataContract,
    model: Model,
    privacy: Privacy,
    encryption: EncryptionConfig,
    min_cohort: int,
    training: TrainingConfig,
    lines: Lines,
    audit: AuditConfig,
) -> AuditReport:
    """What the attacks on a replica show. Raises PlanInvalid."""
    shares = SumTerms.of(privacy, lines.lines, encryption, min_cohort).shares
    plan = Spending(privacy, lines.lines, training_rows(audit.rows, data.holdout), shares).plan(training, model)
    spec = FeatureSpec.of(data)
    net = model.net(spec.shape, spec.task.outputs, training.seed)
    claim = None if plan.unit == "none" else _claim(plan)
    guessed = _guessed(plan, net, spec.task, audit) if claim is not None else ()
    return AuditReport(
        unit=plan.unit,
        claim=claim,
        delta=plan.delta,
        releases="one round" if plan.unit == "client" else "training",
        plan=_told(plan),
        confidence=audit.confidence,
        guesses=guessed,
        ceiling=_ceiling(guessed, plan.delta, audit),
        membership=_membership(plan, net, spec.task, training, audit),
    )


def _claim(plan: DPPlan) -> float:
    """Epsilon of what the attacker is shown: all steps of a run; at client level one sum."""
    release = plan.round() if plan.unit == "client" else plan.run()
    return epsilon_of([release], plan.delta)


def _ceiling(guessed: tuple[Guessed, ...], delta: float, audit: AuditConfig) -> float | None:
    from privacy.audit import most

    if not guessed:
        return None
    return most(guessed[0].canaries, delta, 1 - (1 - audit.confidence) / len(guessed))


def _told(plan: DPPlan) -> str:
    noise = f"noise multiplier {plan.noise_multiplier:.3g}, clipping norm {plan.clipping_norm:g}"
    if plan.unit == "none":
        return f"{plan.rounds} rounds of {plan.steps_per_round} steps without privacy"
    if plan.unit == "client":
        return f"{plan.rounds} rounds, {noise}, shared by {plan.cohort - plan.colluders} of {plan.cohort} clients"
    steps = f"{plan.rounds} rounds of {plan.steps_per_round} steps"
    return f"{steps}, sampling rate {plan.sampling_rate:.3g}, {noise}"


def _guessed(plan: DPPlan, net: Net, task: Task, audit: AuditConfig) -> tuple[Guessed, ...]:
    import torch

    from privacy.audit import guess, shown
    from privacy.canaries import released_by_steps, released_by_sums

    if plan.shares:
        seen = [released_by_sums(plan.shares, audit.canaries)]
    else:
        module, examples = net.module(net.initial()), torch.from_numpy(net.examples(PROBED))
        seen = released_by_steps(module, task.losses, plan, examples, audit.canaries)
    made = [guess(scores, included, round(part * len(scores))) for included, scores in seen for part in GUESSED]
    sure = 1 - (1 - audit.confidence) / len(made)
    return tuple(
        Guessed(canaries=g.asked, guesses=g.guessed, right=g.right, shown=shown(g, plan.delta, sure)) for g in made
    )


def _membership(
    plan: DPPlan, net: Net, task: Task, training: TrainingConfig, audit: AuditConfig
) -> MembershipAttack | None:
    """At client level what is protected is no record, and nothing is said of one."""
    if not audit.shadows or plan.unit == "client":
        return None
    import torch

    from privacy.dpsgd import Optimisation
    from privacy.noise import SecureNoise
    from privacy.shadows import infer

    source = SecureNoise()
    features = torch.from_numpy(net.examples(audit.records))
    targets = torch.from_numpy(task.outcomes(source.uniform(audit.records)))
    # Half of the records are in: their mean gradient is taken over as many as a step expects of them.
    expected = max(1, math.ceil(plan.sampling_rate * audit.records / 2))
    found = infer(
        lambda: net.module(net.initial()),
        task.losses,
        replace(plan, expected_batch=expected),
        Optimisation(training.learning_rate, training.momentum, training.proximal, training.optimizer),
        features,
        targets,
        audit.shadows,
        source,
    )
    return MembershipAttack(**vars(found))
