"""deployment: hand the version over to serving by moving the alias `champion`. Replicas pick it up by themselves."""

from __future__ import annotations

from pipeline.engine.graph import stage
from pipeline.stages.values import Deployment, ModelVersion, Verdict
from pipeline.store.registry import Registry


@stage(produces="deployment", place="here", volatile=True, resources=None)
def deployment(registry: Registry, model_version: ModelVersion, verdict: Verdict) -> Deployment:
    """Promotes only what was blessed; otherwise the champion of before stays. The verdict is noted at the version."""
    registry.note(
        model_version.name,
        model_version.version,
        {"blessed": str(verdict.blessed).lower(), "reasons": "; ".join(verdict.reasons)},
    )
    if verdict.blessed:
        registry.promote(model_version.name, model_version.version)
        return Deployment(name=model_version.name, version=model_version.version, promoted=True)
    return Deployment(name=model_version.name, version=verdict.champion or model_version.version, promoted=False)
