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

    Where a place has to be earned, a new version becomes challenger, unless it was one before and was dropped.
    """
    name, version = model_version.name, model_version.version
    noted = {"blessed": str(verdict.blessed).lower(), "reasons": "; ".join(verdict.reasons)}
    registry.note(name, version, noted)
    if not verdict.blessed:
        return Deployment(name=name, version=verdict.champion or version, promoted=False)
    if registration.promotion == "blessed" or verdict.champion in (None, version):
        registry.promote(name, version)
        return Deployment(name=name, version=version, promoted=True)
    found = registry.version(name, version)
    if not found.dropped:
        registry.challenge(name, version)
    return Deployment(
        name=name,
        version=verdict.champion or version,
        promoted=False,
        challenger=None if found.dropped else version,
    )
