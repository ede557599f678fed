"""join: name, public key, code, and whether the data source is the one of last time."""

from __future__ import annotations

from clients.home import Home
from pipeline.code import code_digest
from pipeline.packing import Blobs
from pipeline.protocol import JoinReply, JoinRequest, own_version
from privacy.errors import VersionMismatch


def join(home: Home, request: JoinRequest, blobs: Blobs) -> tuple[JoinReply, Blobs]:
    """Raises VersionMismatch, SourceMissing, LedgerError."""
    if request.version != own_version():
        raise VersionMismatch(
            f"the coordinator runs {request.version}, this client {own_version()}",
            remedy="Install the same version on both sides.",
            travels=True,
        )
    home.ledger.rows()  # a damaged ledger is refused before anything is planned
    epoch = home.snapshots.refresh()
    reply = JoinReply(
        name=home.policy.name,
        version=own_version(),
        code=code_digest("clients.app"),
        public_keys=home.identity.public.hex(),
        fingerprint=home.digest(epoch.encode(), home.policy.model_dump_json().encode()),
    )
    return reply, {}
