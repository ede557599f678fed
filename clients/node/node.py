"""A client node: the SuperNode that talks to the coordinator, and the executor that does the work beside the data."""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from pydantic import Field

from clients.home import Home
from clients.ingestion import check_forbidden
from clients.node.supernode import HEARD
from pipeline.host.files import write_atomically
from pipeline.host.locking import is_locked, locked
from pipeline.host.services import Service, Services, free_port, meaning, python_environment
from pipeline.host.tls import Remedies, greet
from pipeline.kinds import Frozen
from pipeline.language.card import ClientCard
from pipeline.language.configfile import parse, read_yaml
from privacy.errors import ConfigError, WorkspaceBusy
from privacy.keys import read_secret, write_secret

_REFUSED = (
    "the coordinator does not let this node in: ask its operator whether your card is admitted (after a crash it takes "
    "a minute, and a clock that is wrong is refused too)"
)
MEANINGS = {
    "Starting Flower SuperNode": "connecting",
    "SuperNode ID": "connected",
    "Connection successful": "connected",
    "Received successfully": "connected, and at work",
    "Sent successfully": "connected",
    "Connection attempt failed": "the coordinator does not answer, or a clock is wrong here; tried again by itself",
    "Failed to activate SuperNode": _REFUSED,
    "SuperNode terminated gracefully": _REFUSED,  # it ends itself at the first refusal once it was let in
    "CERTIFICATE_VERIFY_FAILED": "the coordinator's certificate does not come from your ca.crt: somebody else answers "
    "there, or ca.crt is not the operator's",
    "Exit Code: 302": "node.key cannot be read: put it back from its safe place",
}
"""What Flower's SuperNode logs, in our words."""


AWAY = 30.0
"""Seconds without a word after which more is said of the link."""
_BACK = "Put it back from its safe place; or make a new home under a new name: sottovoce client init"
_REMEDIES = Remedies(
    expired="Ask the operator for a new one (sottovoce server renew); or this machine's clock is wrong.",
    not_yet="Set this machine's clock.",
    other_name="Ask the operator which address its certificate is made out to, and put that into connection.yaml.",
    stranger="Somebody else answers there, or your ca.crt is not the operator's: compare it over the phone.",
)
_OPENSSH = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


class Connection(Frozen):
    """`connection.yaml`: where the coordinator is."""

    coordinator: str = Field(pattern=r"^[^\s/:]+:\d{1,5}$", description="HOST:PORT of the coordinator's gateway.")


class Node:
    """The node of one home. Raises ConfigError when the home has no connection."""

    def __init__(self, home: Home) -> None:
        self.home, self.root = home, home.root.absolute()

    @classmethod
    def create(cls, home: Home, coordinator: str, authority: Path) -> Node:
        """Give a home a node key, a card, and the root certificate it knows its coordinator by. Raises ConfigError."""
        connection, pem = cls.introduction(coordinator, authority)
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(*_OPENSSH)
        write_secret(home.root / "node.key", private)
        write_secret(home.root / "superexec.secret", secrets.token_bytes(32))
        write_atomically(home.root / "ca.crt", pem)
        write_atomically(home.root / "connection.yaml", yaml.safe_dump(connection.model_dump()).encode())
        card = ClientCard.signed(home.policy.name, home.identity, public.decode())
        write_atomically(home.root / "card.json", card.model_dump_json(indent=1).encode())
        return cls(home)

    @staticmethod
    def introduction(coordinator: str, authority: Path) -> tuple[Connection, bytes]:
        """Where the coordinator is, and its certificate in PEM. Raises ConfigError; nothing is written."""
        connection = parse(Connection, {"coordinator": coordinator}, "--coordinator")
        try:
            pem = authority.read_bytes()
            x509.load_pem_x509_certificate(pem)
        except (OSError, ValueError):
            raise ConfigError(
                f"{authority} is not a certificate", remedy="The operator hands out the file ca.crt of its home."
            ) from None
        return connection, pem

    @property
    def connection(self) -> Connection:
        path = self.root / "connection.yaml"
        if not path.exists():
            raise ConfigError(
                f"{self.root} does not know its coordinator",
                remedy="Make the home with: sottovoce client init --coordinator HOST:PORT --ca FILE",
            )
        return parse(Connection, read_yaml(path), "connection.yaml")

    @property
    def card(self) -> ClientCard:
        return ClientCard.read(self.root / "card.json")

    def check(self) -> None:
        """Raise ConfigError, SecretExposed, LedgerError for what would fail later, before anything starts."""
        policy, _ = self.home.policy, self.connection
        for name in ("identity.key", "digest.key", "node.key", "superexec.secret"):
            try:
                read_secret(self.root / name)
            except FileNotFoundError:
                raise ConfigError(f"{self.root / name} is missing", remedy=_BACK) from None
        card = ClientCard.signed(policy.name, self.home.identity, self._node_key())
        if card.same_as(self.card) and card != self.card:  # an earlier version did not sign it
            write_atomically(self.root / "card.json", card.model_dump_json(indent=1).encode())
        elif card != self.card:
            raise ConfigError(
                f"{self.root / 'card.json'} is not the card of the name and the keys in this home", remedy=_BACK
            )
        policy.source.seen()
        policy.source.check()
        check_forbidden(policy.source, policy.forbidden_columns, "forbidden_columns in policy.yaml")
        if self.home.contract:
            policy.permit_columns(self.home.contract.columns)
            policy.permit_rows(self.home.contract.min_rows)
        self.home.ledger.rows()

    def greet(self) -> None:
        """Raise ConfigError when somebody else than the coordinator answers in its place. Nobody is no error."""
        host, _, port = self.connection.coordinator.rpartition(":")
        greet(host, int(port), self.root / "ca.crt", _REMEDIES)

    def _node_key(self) -> str:
        """The public half of `node.key`, as the card has it. Raises ConfigError."""
        try:
            key = load_ssh_private_key(read_secret(self.root / "node.key"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(f"{self.root / 'node.key'} is not a readable private key", remedy=_BACK) from None
        return key.public_key().public_bytes(*_OPENSSH).decode()

    def run(self, stopped: threading.Event, ready: Callable[[], None], say: Callable[[str], None]) -> None:
        """Keep the node running until `stopped`. Raises WorkspaceBusy when one runs on this home already."""
        with self._locked():
            runtime = free_port()
            env = python_environment(self.root / "flwr")
            secret = str(self.root / "superexec.secret")
            supernode = [
                *(sys.executable, "-P", "-m", "clients.node.supernode"),
                *("--superlink", self.connection.coordinator),
                *("--root-certificates", str(self.root / "ca.crt")),
                *("--auth-supernode-private-key", str(self.root / "node.key")),
                *("--node-config", f"home={json.dumps(str(self.root))}"),
                *("--host", "127.0.0.1", "--port", str(runtime)),
                *("--isolation", "process", "--superexec-auth-secret-file", secret),
            ]
            executor = [sys.executable, "-P", "-m", "clients.node.executor", f"127.0.0.1:{runtime}", secret]
            services = [
                Service("supernode", supernode, {**env, HEARD: str(self._heard)}, meanings=MEANINGS, heard=self._heard),
                Service("executor", executor, env),
            ]
            Services(services, self.root / "logs").run(stopped, ready, say)

    @property
    def link(self) -> str:
        """How it stands with the coordinator: when that answered last, and what the SuperNode has said."""
        said = meaning(self.root / "logs" / "supernode.log", MEANINGS) or "has said nothing yet"
        if not self._heard.exists():
            return said
        ago = max(0.0, time.time() - self._heard.stat().st_mtime)
        return f"last heard {ago:.0f} s ago" + ("" if ago < AWAY else f"; {said}")

    @property
    def _heard(self) -> Path:
        return self.root / "logs" / "heard"

    @property
    def process(self) -> int | None:
        """Process id of the node that runs on this home; None: there is none."""
        path = self.root / "node.lock"
        text = path.read_text().strip() if is_locked(path) else ""
        return int(text) if text.isdigit() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        busy = WorkspaceBusy(f"a node runs on {self.root} already", remedy="See: sottovoce client status")
        with locked(self.root / "node.lock", busy) as file:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield
