"""Evidence for machines, and for the registry."""

from __future__ import annotations

from server.evidence.experiments import Comparison


def told(one: Comparison) -> dict[str, object]:
    """As JSON."""
    return {
        "name": one.name,
        "kind": one.kind,
        "champion": one.champion,
        "challenger": one.challenger,
        "began": one.began,
        "latest": one.latest,
        "subjects": dict(one.subjects),
        "penalties": dict(one.penalties),
        "difference": {"mean": one.difference.mean, "low": one.difference.low, "high": one.difference.high},
        "confidence": 1 - one.alpha,
        "verdict": one.verdict,
        "why": one.why,
    }
