"""The checkpoints of one execution: named artifacts that a resumed execution finds again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pipeline.store.artifacts import ArtifactStore, Digest
from pipeline.store.metadata import Metadata


class Journal:
    """Writes through to the store and the lineage of one execution."""

    sendable: ClassVar[bool] = False

    def __init__(self, execution: str, store: ArtifactStore, metadata: Metadata, run: str) -> None:
        """run: the one that the execution is made in."""
        self.execution = execution
        self._store, self._metadata, self._run = store, metadata, run

    def put(self, name: str, content: bytes) -> Digest:
        """Store `content` as output `name` of this execution; durable when this returns."""
        digest = self._store.put(content)
        self._metadata.record(self.execution, "OUTPUT", name, digest, name.partition("-")[0])
        return digest

    def get(self, name: str) -> bytes | None:
        """What an earlier attempt of this execution put, or None."""
        digest = self._metadata.output(self.execution, name)
        return self._store.get(digest) if digest and self._store.has(digest) else None

    def artifact(self, digest: Digest) -> bytes:
        """Any artifact by digest. Raises ArtifactMissing, ArtifactCorrupt."""
        return self._store.get(digest)

    @contextmanager
    def child(self, part: str, parameters: Mapping[str, Any]) -> Iterator[Journal]:
        """A part of a stage as an execution of its own, under an id that clients charge apart: the same one again when
        this execution is resumed. It is complete when the block ends, failed when that raises."""
        parent = self._metadata.execution(self.execution)
        content = json.dumps([self.execution, part, dict(parameters)], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        known = self._metadata.find(key)
        stage = f"{parent.stage}/{part}"
        execution = known[0].id if known else self._metadata.begin(stage, key, parameters, parent.code)
        self._metadata.associate(self._run, execution, cached=bool(known and known[0].state == "COMPLETE"))
        try:
            yield Journal(execution, self._store, self._metadata, self._run)
        except BaseException as error:
            self._metadata.end(execution, error=str(error) or type(error).__name__)
            raise
        self._metadata.end(execution)
