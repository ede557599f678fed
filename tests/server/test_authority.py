"""Certificates and homes of a coordinator: what is made, and what is refused before anything starts."""

import datetime
import json
import socket
import threading
from pathlib import Path

import pytest

from pipeline.card import ClientCard
from pipeline.federation import Admitted
from pipeline.services import free_port
from privacy.errors import ConfigError, KeyMismatch, NotFound, PortInUse, SecretExposed, WorkspaceBusy
from server import authority
from server.coordinator import Coordinator
from server.home import CoordinatorHome, ServerSettings
from server.roster import Roster
from tests.clients.test_node import make_card


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    settings = ServerSettings(name="lab", port=free_port(), link_port=free_port())
    return CoordinatorHome.create(tmp_path / "server", settings)


def test_a_new_home_is_sound_and_its_secrets_are_its_own(home: CoordinatorHome) -> None:
    home.check()
    for name in ("ca.key", "gateway.key", "link.key", "superexec.secret"):
        assert (home.root / name).stat().st_mode & 0o077 == 0
    left = authority.check_certificate(home.root / "gateway.crt", home.root / "gateway.key", home.root / "ca.crt")
    assert datetime.timedelta(days=390) < left
    with pytest.raises(ConfigError, match="already"):
        CoordinatorHome.create(home.root, home.settings)


def test_renewed_certificates_are_other_ones_of_the_same_authority(home: CoordinatorHome) -> None:
    root, before = (home.root / "ca.crt").read_bytes(), (home.root / "gateway.crt").read_bytes()
    home.renew()
    assert (home.root / "ca.crt").read_bytes() == root
    assert (home.root / "gateway.crt").read_bytes() != before
    home.check()


def test_expired_foreign_and_mismatched_certificates_are_refused(
    home: CoordinatorHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CoordinatorHome.create(tmp_path / "other", ServerSettings(name="other"))
    good = (home.root / "gateway.crt").read_bytes()
    (home.root / "gateway.crt").write_bytes((other.root / "gateway.crt").read_bytes())
    with pytest.raises(ConfigError, match="was not issued by"):
        home.check()
    (home.root / "gateway.crt").write_bytes((home.root / "link.crt").read_bytes())
    with pytest.raises(ConfigError, match="not the key of"):
        home.check()
    (home.root / "gateway.crt").write_bytes(b"no certificate")
    with pytest.raises(ConfigError, match="not a readable certificate"):
        home.check()
    (home.root / "gateway.crt").write_bytes(good)
    monkeypatch.setattr(authority, "SERVER_DAYS", 0)
    home.renew()
    with pytest.raises(ConfigError, match="expired on") as caught:
        home.check()
    assert "server renew" in caught.value.remedy


def test_exposed_and_missing_keys_are_refused(home: CoordinatorHome) -> None:
    (home.root / "ca.key").chmod(0o644)
    with pytest.raises(SecretExposed, match="0644"):
        home.check()
    (home.root / "ca.key").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        home.check()


def test_a_port_in_use_and_a_home_in_use_are_told_before_anything_starts(home: CoordinatorHome) -> None:
    def start() -> None:
        Coordinator(home).run(threading.Event(), lambda: None, print)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", home.settings.port))
        taken.listen()
        with pytest.raises(PortInUse, match=str(home.settings.port)):
            start()
    with home.locked(), pytest.raises(WorkspaceBusy, match="already"):
        start()
    assert not (home.root / "logs").exists()


def test_a_roster_keeps_names_keys_and_revocations(home: CoordinatorHome) -> None:
    roster, nodes = Roster(home.root / "roster.json"), home.root / "nodes.json"
    east, south = make_card("east", 1), make_card("south", 2)
    assert roster.admitted(nodes) == {}
    nodes.write_text(json.dumps({east.node_key: "7", south.node_key: "8"}))
    roster.add(east)
    roster.add(east)
    roster.add(south)
    assert roster.admitted(nodes) == {"east": Admitted(east.public_keys, 7), "south": Admitted(south.public_keys, 8)}
    for posing in (make_card("east", 3), east.model_copy(update={"name": "west"})):
        with pytest.raises(KeyMismatch, match="east is admitted with fingerprint"):
            roster.add(posing)
    roster.revoke("south")
    assert list(roster.admitted(nodes)) == ["east"]
    with pytest.raises(KeyMismatch, match="was revoked"):
        roster.add(south)
    with pytest.raises(NotFound, match="no client north"):
        roster.revoke("north")
    (home.root / "roster.json").write_text("[")
    with pytest.raises(ConfigError, match="roster"):
        roster.entries()


def test_a_card_is_a_card(tmp_path: Path) -> None:
    card = make_card("east", 1)
    path = tmp_path / "card.json"
    path.write_text(card.model_dump_json())
    assert ClientCard.read(path) == card
    assert len({card.fingerprint, make_card("west", 1).fingerprint, make_card("east", 2).fingerprint}) == 3
    for wrong in ("", "{}", card.model_dump_json().replace("ecdsa-sha2-nistp384", "ssh-ed25519")):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"card\.json"):
            ClientCard.read(path)
