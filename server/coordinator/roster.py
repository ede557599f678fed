"""Who is admitted to the federation: a file of cards, and the node keys that the SuperLink was told of."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter

from pipeline.federation.clients import Admitted
from pipeline.host.files import write_atomically
from pipeline.host.locking import locked
from pipeline.host.services import program, python_environment
from pipeline.kinds import Frozen
from pipeline.language.card import ClientCard
from privacy.errors import ConfigError, FederationError, KeyMismatch, NotFound
from server.coordinator.home import LINK, CoordinatorHome

NODES = "nodes.json"


_REMEDIES = {
    "[code: 23": f"Its state and {NODES} disagree: stop the coordinator, remove {NODES}, start it again. Nodes are "
    "registered anew and runs go on.",
}


class Admission(Frozen):
    card: ClientCard
    revoked: bool = Field(False, description="Never admitted again under this card.")


_Entries = TypeAdapter(dict[str, Admission])


class Roster:
    """Written whole on every change."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> dict[str, Admission]:
        """Raises ConfigError when the file was damaged."""
        try:
            return _Entries.validate_json(self._path.read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{self._path} is not a readable roster") from None

    def admitted(self, nodes: Path) -> dict[str, Admitted]:
        """Every admitted client by name. nodes: file of the nodes that the SuperLink was told of."""
        numbers = _numbers(nodes)
        return {
            name: Admitted(entry.card.public_keys, int(numbers[entry.card.node_key]))
            for name, entry in self.entries().items()
            if not entry.revoked and entry.card.node_key in numbers
        }

    def add(self, card: ClientCard) -> None:
        """Raises KeyMismatch when the name is another's, or a key was admitted or revoked before."""
        with self._locked():
            self._add(card)

    def _add(self, card: ClientCard) -> None:
        entries = self.entries()
        for name, entry in entries.items():
            same = {entry.card.public_keys, entry.card.node_key} & {card.public_keys, card.node_key}
            if name == card.name and entry.card.same_as(card) and not entry.revoked:
                return
            if name == card.name or same:
                state = "was revoked" if entry.revoked else "is admitted"
                raise KeyMismatch(
                    f"{name} {state} with fingerprint {entry.card.fingerprint}",
                    remedy="A new client needs a new name and new keys: sottovoce client init in a new folder.",
                )
        self._write({**entries, card.name: Admission(card=card)})

    def revoke(self, name: str) -> ClientCard:
        """Raises NotFound."""
        with self._locked():
            entries = self.entries()
            if name not in entries:
                raise NotFound(f"no client {name} in the roster", remedy="See: sottovoce server roster list")
            card = entries[name].card
            self._write({**entries, name: Admission(card=card, revoked=True)})
            return card

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._path.with_suffix(".lock")):
            yield

    def _write(self, entries: dict[str, Admission]) -> None:
        write_atomically(self._path, _Entries.dump_json(entries, indent=1))


def tell_superlink(home: CoordinatorHome) -> None:
    """Make the running SuperLink know exactly the node keys of the admitted clients. Raises FederationError."""
    with locked(home.root / "nodes.lock"):  # two at once would both register the same key
        _register(home, home.root / NODES)


def _numbers(path: Path) -> dict[str, str]:
    """Node numbers by node key: Flower lists its nodes by number only. Raises ConfigError."""
    try:
        numbers: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError):
        raise ConfigError(f"{path} is not readable", remedy="Put it back from its safe place.") from None
    return numbers


def _register(home: CoordinatorHome, path: Path) -> None:
    numbers = _numbers(path)
    there = {str(node["node-id"]) for node in flwr(home, "supernode", "list", LINK)["nodes"]}
    known = {key: number for key, number in numbers.items() if number in there}
    entries = Roster(home.root / "roster.json").entries().values()
    wanted = {entry.card.node_key for entry in entries if not entry.revoked}
    for key in sorted(set(known) - wanted):
        flwr(home, "supernode", "unregister", known.pop(key), LINK)
        write_atomically(path, json.dumps(known).encode())
    for key in sorted(wanted - set(known)):
        with tempfile.NamedTemporaryFile("w", suffix=".pub") as public:
            public.write(key + "\n")
            public.flush()
            known[key] = str(flwr(home, "supernode", "register", public.name, LINK)["node-id"])
        write_atomically(path, json.dumps(known).encode())


def flwr(home: CoordinatorHome, *arguments: str) -> dict[str, Any]:
    """One command of Flower's own command line against the SuperLink on loopback. Raises FederationError."""
    try:
        done = _run_flwr(home, arguments)
    except subprocess.TimeoutExpired:
        raise FederationError("the SuperLink does not answer", remedy="See logs/superlink.log in its home.") from None
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        told = {"success": False, "error-message": (done.stderr or done.stdout).strip()[-300:]}
    if done.returncode or not told.get("success", True):
        said = [line for line in str(told.get("error-message")).splitlines() if line.strip()]
        code = said[-1].strip() if said else "no reason given"
        raise FederationError(
            f"the SuperLink refused `{' '.join(arguments[:2])}`: {code}",
            remedy=_REMEDIES.get(code.partition("]")[0], f"Is it running? sottovoce server start {home.root}"),
        )
    return told


def _run_flwr(home: CoordinatorHome, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("flwr"), *arguments, "--format", "json"],
        env=python_environment(home.root / "flwr"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,  # Ctrl-C is for us: a registration is finished
    )
