"""What is measured of the answers, as Prometheus reads it: one sum over the replicas, whichever of them is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from server.serving.traffic.lineup import Board

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True)
class OfVersion:
    """What is counted of one version's answers."""

    rows: Counter
    failed: Counter
    seconds: Histogram


class Measures:
    """Of one replica."""

    def __init__(self, replica: str, board: Board) -> None:
        self._replica, self._board = replica, board
        self._own = CollectorRegistry()
        self._routes: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "sottovoce_requests",
            "Questions by what was asked and what was said.",
            ["route", "status"],
            registry=self._own,
        )
        self.seconds = Histogram(
            "sottovoce_request_seconds", "How long an answer took.", ["route"], registry=self._own, buckets=SECONDS
        )
        self._rows = Counter("sottovoce_rows", "Rows answered.", ["version"], registry=self._own)
        self._failed = Counter(
            "sottovoce_version_failed", "Questions, for any version, that it broke on.", ["version"], registry=self._own
        )
        self._took = Histogram(
            "sottovoce_version_seconds",
            "How long a version took for a row, of questions for any version.",
            ["version"],
            registry=self._own,
            buckets=SECONDS,
        )
        self._versions: dict[int, OfVersion] = {}
        self.feedback = Counter("sottovoce_feedback", "Outcomes by what came of them.", ["what"], registry=self._own)
        self.lost = Counter("sottovoce_rows_lost", "Rows that were to be kept and were not.", registry=self._own)
        self.shadow = Counter("sottovoce_shadow_rows", "Rows asked of a shadow too.", ["version"], registry=self._own)
        self.differing = Counter(
            "sottovoce_shadow_differing_rows",
            "Of those, rows that it answers otherwise.",
            ["version"],
            registry=self._own,
        )

    def of_version(self, number: int) -> OfVersion:
        if (known := self._versions.get(number)) is None:
            label = str(number)
            known = OfVersion(self._rows.labels(label), self._failed.labels(label), self._took.labels(label))
            self._versions[number] = known
        return known

    def answered(self, route: str, status: str, seconds: float) -> None:
        """One more answer."""
        known = self._routes.get((route, status))
        if known is None:
            known = self.requests.labels(route, status), self.seconds.labels(route)
            self._routes[route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def samples(self) -> list[object]:
        """For the other replicas."""
        return [
            [sample.name, sample.labels, sample.value] for metric in self._own.collect() for sample in metric.samples
        ]

    def page(self) -> bytes:
        """All replicas' counts, in Prometheus' text format."""
        whole = CollectorRegistry()
        whole.register(_Summed(self._own.collect(), self._board.samples(but=self._replica)))
        return generate_latest(whole)


class _Summed:
    """Counters and histograms are sums, and so are their sums."""

    def __init__(self, own: Iterable[Metric], others: list[list[object]]) -> None:
        self._own, self._others = list(own), others

    def collect(self) -> Iterable[Metric]:
        told: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for samples in self._others:
            sample: Any
            for sample in samples:
                name, labels, value = sample
                if not name.endswith("_created"):
                    key = (name, tuple(sorted(labels.items())))
                    told[key] = told.get(key, 0.0) + value
        for metric in self._own:
            made = Metric(metric.name, metric.documentation, metric.type)
            prefixes = tuple(f"{metric.name}{end}" for end in ("_total", "_bucket", "_sum", "_count"))
            known = {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for sample in metric.samples
                if sample.name in prefixes
            }
            for key in {**known, **{key: 0.0 for key in told if key[0] in prefixes}}:
                value = known.get(key, 0.0) + told.get(key, 0.0)
                made.samples.append(Sample(key[0], dict(key[1]), value))
            yield made
