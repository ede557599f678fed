"""join: name, public key, code, and whether the data source is the one of last time."""

from __future__ import annotations

from clients.home import Home
from pipeline.host.code import code_digest
from pipeline.language.packing import Blobs
from pipeline.language.protocol import Action, AskedSpending, JoinReply, JoinRequest, own_version
from pipeline.language.spending import Spending, training_rows
from privacy.errors import PrivacyError, VersionMismatch

ANSWERED_BY = {
    Action.KEYS: "clients.keyring",
    Action.INGEST: "clients.ingestion",
    Action.VALIDATE: "clients.validation",
    Action.STATISTICS: "clients.statistics",
    Action.PREPROCESS: "clients.preprocessing",
    Action.TRAIN: "clients.rounds",
    Action.EVALUATE: "clients.evaluation",
    Action.REVEAL: "clients.reveal",
}
"""The module of each action whose answer results are made of. By name: its code is digested, not imported."""


def code_of(action: Action) -> str:
    """Digest of what answers an action: its handler and all behind it, and the app alone, which knows every handler."""
    return code_digest(ANSWERED_BY[action], alone=("clients.app",))


def join(home: Home, request: JoinRequest, blobs: Blobs) -> tuple[JoinReply, Blobs]:
    """Raises VersionMismatch, ActionForbidden, SourceMissing, LedgerError."""
    if request.version != own_version():
        raise VersionMismatch(
            f"the coordinator runs {request.version}, this client {own_version()}",
            remedy="Install the same version on both sides.",
            travels=True,
        )
    home.policy.permit_model(request.parameters)
    home.ledger.rows()  # a damaged ledger is refused before anything is planned
    epoch = home.snapshots.refresh()
    contract, spending = request.contract, request.spending
    unaffordable = _unaffordable(home, spending, contract.holdout) if spending and contract else ""
    reply = JoinReply(
        name=home.policy.name,
        version=own_version(),
        code={action: code_of(action) for action in ANSWERED_BY},
        public_keys=home.identity.public.hex(),
        fingerprint=home.digest(epoch.encode(), home.policy.model_dump_json().encode()),
        declared=home.digest(b"declared", f"{home.policy.rows} {home.policy.subjects}".encode()),
        source=home.digest(b"source", epoch.encode()),
        unaffordable=unaffordable,
    )
    return reply, {}


def _unaffordable(home: Home, asked: AskedSpending, holdout: float) -> str:
    """Why a whole run is beyond what the owner allows; nothing of it depends on the data, and nothing is charged."""
    rows = training_rows(home.policy.units_declared(asked.privacy), holdout)
    try:
        home.policy.permit_privacy(asked.privacy)
        Spending(asked.privacy, asked.lines, rows, asked.shares).afford(home.ledger, holdout, "asked")
    except PrivacyError as error:
        return f"{error.cause.rstrip('.')}. {error.remedy}"[:1000]
    return ""
