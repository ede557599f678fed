"""Certificates and homes of a coordinator: what is made, and what is refused before anything starts."""

import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sottovoce
from pipeline.federation.clients import Admitted
from pipeline.host.services import free_port
from pipeline.language.card import ClientCard
from privacy.errors import ConfigError, KeyMismatch, NotFound, PortInUse, SecretExposed, WorkspaceBusy
from server.coordinator import authority
from server.coordinator.home import CoordinatorHome, OwnCertificate, ServerSettings
from server.coordinator.processes import Coordinator
from server.coordinator.roster import Roster
from tests.clients.node.test_node import make_card


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    settings = ServerSettings(name="lab", port=free_port(), link_port=free_port())
    return CoordinatorHome.create(tmp_path / "server", settings)


def test_a_new_home_is_sound_and_its_secrets_are_its_own(home: CoordinatorHome) -> None:
    home.check()
    for name in ("ca.key", "gateway.key", "link.key", "link-ca.key", "superexec.secret"):
        assert (home.root / name).stat().st_mode & 0o077 == 0
    assert 390 < home.days_left < 400
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
    good, key = (home.root / "gateway.crt").read_bytes(), (home.root / "gateway.key").read_bytes()
    (home.root / "gateway.crt").write_bytes((other.root / "gateway.crt").read_bytes())
    with pytest.raises(ConfigError, match="do not belong together"):
        home.check()
    (home.root / "gateway.key").write_bytes((other.root / "gateway.key").read_bytes())
    with pytest.raises(ConfigError, match="was not issued by") as caught:
        home.check()
    assert "server renew" in caught.value.remedy
    (home.root / "gateway.key").write_bytes(key)
    (home.root / "gateway.crt").write_bytes(b"no certificate")
    with pytest.raises(ConfigError, match="cannot be read"):
        home.check()
    (home.root / "gateway.crt").write_bytes(good)
    settings = (home.root / "server.yaml").read_text()
    (home.root / "server.yaml").write_text(settings.replace("- localhost", "- coordinator.example.org"))
    with pytest.raises(ConfigError, match=r"is not made out to coordinator\.example\.org"):
        CoordinatorHome(home.root).check()
    (home.root / "server.yaml").write_text(settings)
    monkeypatch.setattr(authority, "SERVER_DAYS", 0)
    home.renew()
    with pytest.raises(ConfigError, match="has expired") as caught:
        home.check()
    assert "server renew" in caught.value.remedy


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def corporate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, an authority below it, and what the latter issued, as openssl makes them in a company."""
    folder = tmp_path_factory.mktemp("corporate")
    (folder / "below.cnf").write_text("basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n")
    (folder / "leaf.cnf").write_text("subjectAltName=DNS:federation.example.org,DNS:*.example.org,IP:10.1.2.3\n")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(folder, *new, "-x509", "-days", "30", "-subj", "/CN=Root", "-keyout", "root.key", "-out", "root.crt")
    openssl(folder, *new, "-x509", "-days", "30", "-subj", "/CN=Self", "-keyout", "self.key", "-out", "self.crt")
    for name, issuer in (("below", "root"), ("leaf", "below")):
        openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key")
        openssl(folder, *signed, "-CAcreateserial", "-days", "20", "-extfile", f"{name}.cnf", "-out", f"{name}.crt")
    (folder / "chain.crt").write_bytes((folder / "leaf.crt").read_bytes() + (folder / "below.crt").read_bytes())
    return folder


def init(home: Path, corporate: Path, certificate: str, key: str, *more: str) -> str:
    options = ["--certificate", str(corporate / certificate), "--key", str(corporate / key)]
    command = ["server", "init", str(home), *options, "--ca", str(corporate / "root.crt"), *more]
    return CliRunner().invoke(sottovoce.app, command, catch_exceptions=False).output


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates as others make them come from openssl")
def test_a_certificate_that_somebody_else_issued_is_taken(corporate: Path, tmp_path: Path) -> None:
    said = init(tmp_path / "mine", corporate, "chain.crt", "leaf.key")
    assert "ca.crt" in said
    assert "ca.key" not in said
    home = CoordinatorHome(tmp_path / "mine")
    assert home.settings.addresses == ("federation.example.org", "10.1.2.3")
    assert (home.root / "ca.crt").read_bytes() == (corporate / "root.crt").read_bytes()
    assert (home.root / "gateway.key").stat().st_mode & 0o077 == 0
    home.check()
    assert home.days_left < 30
    with pytest.raises(ConfigError, match="issued by somebody else"):
        home.renew()
    home.renew(OwnCertificate(corporate / "chain.crt", corporate / "leaf.key", corporate / "root.crt"))
    home.check()
    init(tmp_path / "wild", corporate, "chain.crt", "leaf.key", "--address", "other.example.org")
    CoordinatorHome(tmp_path / "wild").check()


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates as others make them come from openssl")
@pytest.mark.parametrize(
    ("certificate", "key", "more", "told"),
    [
        ("self.crt", "self.key", ("--address", "x"), "was not issued by"),
        ("leaf.crt", "leaf.key", (), "was not issued by"),
        ("chain.crt", "below.key", (), "do not belong together"),
        ("chain.crt", "none.key", (), "cannot be read"),
        ("chain.crt", "leaf.key", ("--address", "elsewhere.org"), "is not made out to elsewhere.org"),
        ("self.crt", "self.key", (), "addresses"),
    ],
)
def test_a_certificate_that_clients_would_not_believe_is_refused_and_nothing_is_made(
    corporate: Path, tmp_path: Path, certificate: str, key: str, more: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        init(tmp_path / "mine", corporate, certificate, key, *more)
    assert not (tmp_path / "mine").exists()
    with pytest.raises(ConfigError, match="needs its key"):
        CliRunner().invoke(sottovoce.app, ["server", "init", str(tmp_path / "x"), "--key", "k"], catch_exceptions=False)


def test_exposed_and_missing_keys_are_refused(home: CoordinatorHome) -> None:
    (home.root / "ca.key").chmod(0o644)
    with pytest.raises(SecretExposed, match="0644"):
        home.check()
    (home.root / "ca.key").unlink()
    home.check()  # it may lie in a safe place: only renewing needs it
    (home.root / "gateway.key").unlink()
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
    assert make_card("west", 1).fingerprint == card.fingerprint == card.identity.fingerprint, "one, of its keys"
    assert make_card("east", 2).fingerprint != card.fingerprint
    for part, other in {"name": "west", "node_key": make_card("east", 2).node_key, "signature": ""}.items():
        path.write_text(card.model_copy(update={part: other}).model_dump_json())
        with pytest.raises(ConfigError, match="not signed by the keys on it"):
            ClientCard.read(path)
    for wrong in ("", "{}", card.model_dump_json().replace("ecdsa-sha2-nistp384", "ssh-ed25519")):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"card\.json"):
            ClientCard.read(path)
