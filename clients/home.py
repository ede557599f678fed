"""A client's home: everything it keeps, on its own disk. Each message may run in a fresh process and finds it here.

policy.yaml          what the owner allows              contract.yaml  the data that runs may ask for, if the owner says
identity.key         private keys, 0600                 digest.key   key of all digests that leave, 0600
roster.json          fingerprints of the other clients
ledgers/<name>.jsonl the privacy ledger                 ledgers/ended   executions that are over, for ever
snapshots/           Parquet snapshots, their features and checks; present.json says of which source
executions/<id>/     the state of a running execution   client.log   full text of errors, which never travels
alerts.json          what was refused, and how often
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import yaml

from clients.alerts import Alerts
from clients.ended import EndedExecutions
from clients.policy import ClientPolicy
from clients.roster import KnownClients
from clients.snapshots import Snapshots
from pipeline.host.files import write_atomically
from pipeline.host.locking import locked
from pipeline.kinds import Frozen
from pipeline.language.configfile import parse, read_yaml
from pipeline.learning.contract import DataContract
from pipeline.learning.features import FeatureSpec
from privacy.errors import ConfigError, ContractRefused, WorkspaceBusy
from privacy.keys import Identity, read_secret, write_secret
from privacy.ledger import Budget, Ledger


class Home:
    """The folder of one client."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / "policy.yaml").exists():
            raise ConfigError(
                "this node has no client home",
                remedy="Make one, and name it in the node's config: home=PATH.",
                travels=True,
            )

    @classmethod
    def create(cls, root: Path, policy: ClientPolicy, contract: DataContract | None = None) -> Home:
        """A new home with its keys and its opened ledger. Raises ConfigError if there is one."""
        if (root / "policy.yaml").exists():
            raise ConfigError(
                f"{root} is a client home already", remedy="Choose another folder, or edit its policy.yaml."
            )
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        Identity.create(root / "identity.key")
        write_secret(root / "digest.key", secrets.token_bytes(32))
        Ledger(root / "ledgers" / f"{policy.name}.jsonl", _budget(policy)).create()
        if contract:
            write_atomically(root / "contract.yaml", _yaml(contract))
        cls.write_policy(root, policy)
        return cls(root)

    @staticmethod
    def write_policy(root: Path, policy: ClientPolicy) -> None:
        """Store the owner's policy; the ledger and the keys stay as they are."""
        write_atomically(root / "policy.yaml", _yaml(policy))

    @staticmethod
    def written_policy(root: Path) -> ClientPolicy | None:
        """The policy as it stands, or None where it is not one of this version."""
        try:
            return Home(root).policy
        except ConfigError:
            return None

    @cached_property
    def policy(self) -> ClientPolicy:
        return parse(ClientPolicy, read_yaml(self.root / "policy.yaml"), "policy.yaml")

    @cached_property
    def contract(self) -> DataContract | None:
        """The owner's own data contract: what is not in it no run can have. Raises ConfigError."""
        path = self.root / "contract.yaml"
        return parse(DataContract, read_yaml(path), path.name) if path.exists() else None

    def permit_data(self, data: DataContract | FeatureSpec, holdout: float) -> None:
        """Raise ForbiddenColumn or ContractRefused for what the owner does not let a run have: columns, a label, or
        another part of the records than the owner holds out."""
        self.policy.permit_columns([*data.columns, data.task.column])
        if self.contract is None:
            return
        refused = list(self.contract.refusals(data.columns, data.task))
        if holdout != self.contract.holdout:
            refused.append(f"it holds out {holdout:g} of the records, not {self.contract.holdout:g}")
        self.policy.permit_rows(self.contract.min_rows)
        if refused:
            raise ContractRefused(
                f"the contract of this client's owner does not grant the run what it asks for: {'; '.join(refused)}",
                remedy="Agree on one contract: the owner's is contract.yaml in the client's home.",
                travels=True,
            )

    @cached_property
    def identity(self) -> Identity:
        return Identity.load(self.root / "identity.key")

    @cached_property
    def known_clients(self) -> KnownClients:
        return KnownClients(self.root / "roster.json")

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.root / "ledgers" / f"{self.policy.name}.jsonl", _budget(self.policy))

    @cached_property
    def _digest_key(self) -> bytes:
        return read_secret(self.root / "digest.key")

    def digest(self, *parts: bytes) -> str:
        """A keyed digest: equal content, equal digest, and nobody else can test a guess. 32 hex digits."""
        mac = hmac.new(self._digest_key, digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(8, "big") + part)
        return mac.hexdigest()[:32]

    @property
    def place_key(self) -> bytes:
        """Key of the places of records: sixteen bytes, never leaves."""
        return bytes.fromhex(self.digest(b"places"))

    @property
    def published_head(self) -> str:
        """What of the ledger's newest hash is for others."""
        return self._published(self.ledger.head())

    def show_ledger(self, seen: str | None) -> None:
        """Raise LedgerRolledBack unless the ledger still has the row whose head was published as `seen`."""
        if seen is not None:
            self.ledger.follows(seen, self._published)

    def _published(self, head: str) -> str:
        return self.digest(b"ledger head", bytes.fromhex(head))

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.root, self.policy.source, self.digest, self.place_key)

    @cached_property
    def ended(self) -> EndedExecutions:
        return EndedExecutions(self.root / "ledgers" / "ended")

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.root / "alerts.json")

    def execution_folder(self, execution: str) -> Path:
        if not execution.isalnum() or len(execution) > 64:
            raise ConfigError("the execution id is malformed", travels=True)
        return self.root / "executions" / execution

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One message at a time. Raises WorkspaceBusy when another process is at work in this home."""
        busy = WorkspaceBusy("another process is at work in this client's home", travels=True)
        with locked(self.root / "home.lock", busy):
            yield

    def log(self, text: str) -> None:
        """Append to the client's own log, which never leaves."""
        path = self.root / "client.log"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as out:
            out.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text.rstrip()}\n")


def _yaml(model: Frozen) -> bytes:
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True).encode()


def _budget(policy: ClientPolicy) -> Budget:
    return Budget(policy.lifetime_epsilon, policy.lifetime_delta)
