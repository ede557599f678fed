"""join: name, public key, code, and whether the data source is the one of last time."""

from __future__ import annotations

from clients.home import Home
from pipeline.code import code_digest
from pipeline.packing import Blobs
from pipeline.protocol import JoinReply, JoinRequest, own_version
from privacy.errors import SourceMissing, VersionMismatch


def join(home: Home, request: JoinRequest, blobs: Blobs) -> tuple[JoinReply, Blobs]:
    """Raises VersionMismatch, SourceMissing, LedgerError."""
    if request.version != own_version():
        raise VersionMismatch(
            f"the coordinator runs {request.version}, this client {own_version()}",
            remedy="Install the same version on both sides.",
            travels=True,
        )
    try:
        state = home.policy.source.stat()
    except OSError:
        raise SourceMissing(f"{home.policy.source} cannot be read") from None
    home.ledger.rows()  # a damaged ledger is refused before anything is planned
    source = f"{home.policy.source} {state.st_size} {state.st_mtime_ns} {home.policy.model_dump_json()}"
    reply = JoinReply(
        name=home.policy.name,
        version=own_version(),
        code=code_digest("clients.app"),
        public_keys=home.identity.public.hex(),
        fingerprint=home.digest(source.encode()),
    )
    return reply, {}
