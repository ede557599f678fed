"""Names into buckets: a public hash, the same everywhere and for ever, because served versions depend on it."""

from __future__ import annotations

import hashlib


def bucket_of(text: str, buckets: int) -> int:
    """From 0 to `buckets` - 1."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets
