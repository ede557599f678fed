"""A version ready to predict: weights, preprocessing and schema as registered, verified by digest when loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors.numpy import load

from pipeline.learning.features import FeatureSpec
from pipeline.learning.models import mlp as models
from pipeline.learning.models.mlp import ModelConfig
from pipeline.store.registry import Registered
from privacy.errors import VersionRefused


class RowsRefused(ValueError):
    """Rows that do not fit the version's schema; the message names the row and the column."""


@dataclass(frozen=True)
class ServedModel:
    """One version in memory."""

    registered: Registered
    spec: FeatureSpec
    config: ModelConfig
    weights: models.Weights
    description: Mapping[str, Any]

    @classmethod
    def load(cls, registered: Registered) -> ServedModel:
        """Raises VersionRefused when a file is missing, altered or does not fit the others."""
        spec = FeatureSpec.model_validate_json(registered.read("features.json"))
        config = ModelConfig.model_validate_json(registered.read("model.json"))
        try:
            weights = models.from_tensors(config, spec.width, load(registered.read("weights.safetensors")))
        except ValueError as error:
            raise VersionRefused(f"{registered.name} v{registered.version}: the weights do not fit: {error}") from None
        description = {
            "name": registered.name,
            "version": registered.version,
            "metrics": dict(registered.metrics),
            "privacy": json.loads(registered.read("privacy.json")),
            "schema": json.loads(registered.read("schema.json")),
        }
        return cls(registered, spec, config, weights, description)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Probability of the positive class for each row. Raises RowsRefused."""
        checked = [self._checked(number, row) for number, row in enumerate(rows)]
        features = self.spec.matrix(self.spec.frame(checked))
        scores = models.scores(self.config, self.spec.width, self.weights, features)
        return [round(score, 6) for score in scores.tolist()]

    def _checked(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(row) - set(self.spec.columns)):
            raise RowsRefused(f"row {number}: no such column: {', '.join(unknown)}")
        if missing := sorted(set(self.spec.columns) - set(row)):
            raise RowsRefused(f"row {number}: missing column: {', '.join(missing)}")
        return {name: self._value(number, name, row[name]) for name in self.spec.columns}

    def _value(self, number: int, name: str, value: Any) -> Any:
        try:
            return self.spec.columns[name].accepted(value)
        except ValueError as error:
            raise RowsRefused(f"row {number}, column {name}: {error}") from None
