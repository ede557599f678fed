"""deployment: hand the version over to serving by moving the alias `champion`. Replicas pick it up by themselves."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.language.settings.registration import RegistrationConfig
from pipeline.stages.values import Deployment, ModelVersion, Verdict
from pipeline.store.registry import Registry


@stage(produces="deployment", place="here", volatile=True, resources=None)
def deployment(
    registry: Registry, model_version: ModelVersion, verdict: Verdict, registration: RegistrationConfig
) -> Deployment:
    """Promotes only what was blessed; otherwise the champion of before stays. The verdict is noted at the version.

    Where a place has to be earned, a new version becomes challenger, unless it was one before and was dropped. One that
    was retired stays so.
    """
    name, version = model_version.name, model_version.version
    noted = {"blessed": str(verdict.blessed).lower(), "reasons": "; ".join(verdict.reasons)}
    registry.note(name, version, noted)
    found = registry.version(name, version)
    if not verdict.blessed or found.retired:
        return Deployment(name=name, version=verdict.champion or version, promoted=False)
    if registration.promotion == "blessed" or verdict.champion in (None, version):
        registry.promote(name, version)
        return Deployment(name=name, version=version, promoted=True)
    if not found.dropped:
        registry.challenge(name, version)
    challenger = None if found.dropped else version
    return Deployment(name=name, version=verdict.champion or version, promoted=False, challenger=challenger)
