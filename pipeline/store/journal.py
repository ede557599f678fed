"""The checkpoints of one execution: named artifacts that a resumed execution finds again."""

from __future__ import annotations

from pipeline.store.artifacts import ArtifactStore, Digest
from pipeline.store.metadata import Metadata


class Journal:
    """Writes through to the store and the lineage of one execution."""

    def __init__(self, execution: str, store: ArtifactStore, metadata: Metadata) -> None:
        self.execution = execution
        self._store = store
        self._metadata = metadata

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
