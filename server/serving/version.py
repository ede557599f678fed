"""A version ready to predict: weights, preprocessing and schema as registered, verified by digest when loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from safetensors.numpy import load

from pipeline.kinds import INSTALLED
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.graph import Graph
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import GRAPH, WEIGHTS, Weights
from pipeline.learning.queries.statistics import Statistics
from pipeline.store.registry import Registered
from privacy.errors import VersionRefused
from server.evidence.drift import reference_of

NAMED = 3
"""Columns that a refusal names; a request can bring thousands."""


class RowsRefused(ValueError):
    """Rows that do not fit the version's schema; the message names the row and the column."""


@dataclass(frozen=True)
class Said:
    """Of some rows. numbers: what the answers are made of [rows, width], by which they are judged later.
    added: what each column adds to the outputs, where that was asked."""

    answers: list[dict[str, Any]]
    numbers: Weights
    added: list[dict[str, float | list[float]]] | None = None


@dataclass(frozen=True)
class ServedModel:
    """One version in memory."""

    registered: Registered
    spec: FeatureSpec
    encode: Callable[[Sequence[Mapping[str, Any]]], Weights]
    score: Callable[[Weights], Weights]
    explain: Callable[[Weights], dict[str, Weights] | None]
    metrics: Mapping[str, float]
    description: Mapping[str, Any]
    question: Statistics | None
    """What was asked of the training data, where statistics were paid for: inputs are counted alike."""

    @classmethod
    def load(cls, registered: Registered) -> ServedModel:
        """Raises VersionRefused when a file is missing, altered or does not fit the others."""
        spec = FeatureSpec.model_validate_json(registered.read("features.json"), context=INSTALLED)
        try:
            score, explain = _scorer(registered, spec)
        except ValueError as error:
            raise VersionRefused(f"{registered.name} v{registered.version}: the weights do not fit: {error}") from None
        metrics = json.loads(registered.read("metrics.json"))["metrics"]
        description = {
            "name": registered.name,
            "version": registered.version,
            "metrics": dict(registered.metrics),
            "errors": dict(registered.errors),
            "privacy": json.loads(registered.read("privacy.json")),
            "schema": json.loads(registered.read("schema.json")),
            "answer": spec.task.answer_schema,
        }
        reference = reference_of(registered)
        question = reference.question if reference else None
        return cls(registered, spec, spec.encoder(), score, explain, metrics, description, question)

    @property
    def number(self) -> int:
        return self.registered.version

    @property
    def example(self) -> dict[str, Any]:
        """A row for documentation."""
        return {name: column.usual for name, column in self.spec.columns.items()}

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the version says of each row, as its task has it. Raises RowsRefused."""
        return self.said(rows).answers

    def said(self, rows: Sequence[Mapping[str, Any]], *, explained: bool = False) -> Said:
        """The same, with what it is judged by; explained: and with what each column adds. Raises RowsRefused."""
        checked = [self._checked(number, row) for number, row in enumerate(rows)]
        features, task = self.encode(checked), self.spec.task
        outputs = self.score(features)
        added = self._added(features) if explained else None
        return Said(task.answers(outputs, self.metrics), task.predictions(outputs).astype(np.float32), added)

    def _added(self, features: Weights) -> list[dict[str, float | list[float]]]:
        found = self.explain(features)
        if found is None:
            raise RowsRefused("explain: the effects of columns do not add up in this version: it is no additive model")
        told = {name: np.round(values.astype(np.float64), 6).tolist() for name, values in found.items()}
        return [
            {name: values[row][0] if len(values[row]) == 1 else values[row] for name, values in told.items()}
            for row in range(len(features))
        ]

    def _checked(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        columns = self.spec.columns
        if row.keys() != columns.keys():
            if unknown := sorted(set(row) - set(columns)):
                raise RowsRefused(f"row {number}: no such column: {_listed(unknown)}")
            raise RowsRefused(f"row {number}: missing column: {_listed(sorted(set(columns) - set(row)))}")
        try:
            return {name: column.accepted(row[name]) for name, column in columns.items()}
        except ValueError:
            pass
        for name, column in columns.items():  # which one it was
            try:
                column.accepted(row[name])
            except ValueError as error:
                raise RowsRefused(f"row {number}, column {name}: {error}") from None
        raise AssertionError("a cell that is refused only sometimes")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name[:60] for name in names[:NAMED]) + more


def _scorer(
    registered: Registered, spec: FeatureSpec
) -> tuple[Callable[[Weights], Weights], Callable[[Weights], dict[str, Weights] | None]]:
    """Features [rows, width] to outputs, by the version's graph, or in numpy where it has none; and to what each column
    adds to them.

    Raises VersionRefused, ValueError.
    """
    if GRAPH in registered.digests:
        return Graph(registered.read(GRAPH)).outputs, lambda features: None
    model = Model.of(json.loads(registered.read("model.json")))
    net = model.net(spec.shape, spec.task.outputs, 0)
    weights = net.from_tensors(load(registered.read(WEIGHTS)))
    return partial(net.outputs, weights), partial(net.contributions, weights)
