"""Content-addressed storage: every output of a stage under the SHA-256 of its bytes, on any fsspec file system."""

from __future__ import annotations

import hashlib
import uuid

import fsspec

from privacy.errors import ArtifactCorrupt, ArtifactMissing

Digest = str
"""SHA-256, 64 hex digits."""


class ArtifactStore:
    """Bytes by digest. Writing is atomic, reading verifies."""

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")

    def put(self, content: bytes) -> Digest:
        """Store `content`; storing the same bytes again changes nothing."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.location(digest)
        if not self._fs.exists(path):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            temporary = f"{path}.{uuid.uuid4().hex}"
            try:
                self._fs.pipe_file(temporary, content)
                self._fs.mv(temporary, path)
            except OSError:
                if self._fs.exists(temporary):
                    self._fs.rm(temporary)
                raise
        return digest

    def get(self, digest: Digest) -> bytes:
        """Raises ArtifactMissing or, when the bytes are not what was stored, ArtifactCorrupt."""
        try:
            content: bytes = self._fs.cat_file(self.location(digest))
        except FileNotFoundError:
            raise ArtifactMissing(f"artifact {digest[:12]} is not in the store {self._root}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactCorrupt(
                f"artifact {digest[:12]} was altered in the store {self._root}",
                remedy="Put it back from a copy, or remove it: where that is free, the stage that made it runs again.",
            )
        return content

    def has(self, digest: Digest) -> bool:
        return bool(self._fs.exists(self.location(digest)))

    def uri(self, digest: Digest) -> str:
        """The same, with the name of its file system."""
        return str(self._fs.unstrip_protocol(self.location(digest)))

    def location(self, digest: Digest) -> str:
        """Where the bytes of `digest` are."""
        return f"{self._root}/{digest[:2]}/{digest}"
