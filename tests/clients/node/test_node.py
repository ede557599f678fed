"""A client's own commands and checks: what init makes, and what is refused before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

import sottovoce
from clients.home import Home
from clients.node.node import Node
from pipeline.language.card import ClientCard
from pipeline.learning.contract import DataContract
from privacy.errors import ColumnMissing, ConfigError, LedgerMissing, NotFound, SecretExposed, SourceMissing
from privacy.keys import Identity, write_secret
from server.coordinator.home import CoordinatorHome, ServerSettings
from tests.support import settings


def make_card(name: str, number: int) -> ClientCard:
    """The card of an invented client; equal numbers, equal keys."""
    key = ec.derive_private_key(10_000 + number, ec.SECP384R1()).public_key()
    node_key = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return ClientCard.signed(name, Identity(bytes([number]) * 64), node_key)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return CoordinatorHome.create(tmp_path / "server", ServerSettings(name="lab")).root / "ca.crt"


def init(home: Path, source: Path, authority: Path, *more: str) -> str:
    arguments = ["client", "init", str(home), "--name", "east", "--source", str(source), "--ca", str(authority)]
    arguments += ["--lifetime-epsilon", "5", "--min-cohort", "4", "--forbid", "shoe_size, discharge"]
    arguments += ["--coordinator", "example.org:9443", *more]
    result = CliRunner().invoke(sottovoce.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def node(tmp_path: Path, dataset: Path, authority: Path) -> Node:
    init(tmp_path / "east", dataset, authority)
    return Node(Home(tmp_path / "east"))


def test_init_makes_a_home_with_policy_keys_ledger_and_card(tmp_path: Path, dataset: Path, authority: Path) -> None:
    said = init(tmp_path / "east", dataset, authority)
    node = Node(Home(tmp_path / "east"))
    assert node.card.fingerprint in said
    policy = node.home.policy
    assert (policy.lifetime_epsilon, policy.min_cohort, policy.require_masks) == (5.0, 4, True)
    assert policy.forbidden_columns == ("shoe_size", "discharge")
    assert node.home.ledger.spent() == 0
    assert node.card.public_keys == node.home.identity.public.hex()
    for name in ("identity.key", "digest.key", "node.key", "superexec.secret"):
        assert (node.root / name).stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in (node.root / "card.json").read_bytes()
    node.check()
    assert node.process is None


def test_init_asks_for_what_it_was_not_told(tmp_path: Path, dataset: Path, authority: Path) -> None:
    answers = f"east\n{dataset}\n3\n6\nward\nexample.org:1\n{authority}\n"
    result = CliRunner().invoke(
        sottovoce.app, ["client", "init", str(tmp_path / "asked")], input=answers, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert Home(tmp_path / "asked").policy.lifetime_epsilon == 3.0
    assert "no server can change it" in result.output


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--source", "nowhere.csv"), "no such file"),
        (("--ca", "nowhere.crt"), "no such file"),
        (("--forbid", "shoesize"), "Did you mean 'shoe_size'|which is no column"),
        (("--rows", "200000"), "lifetime_delta 1e-05 is not below one over rows"),
        (("--ca", __file__), "not a certificate"),
        (("--lifetime-epsilon", "-1"), "lifetime_epsilon"),
        (("--min-cohort", "1"), "min_cohort"),
        (("--name", "Not A Name"), "name"),
        (("--coordinator", "https://example.org"), "coordinator"),
    ],
)
def test_init_refuses_what_cannot_be(
    tmp_path: Path, dataset: Path, authority: Path, changed: tuple[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        init(tmp_path / "east", dataset, authority, *changed)


def test_a_home_that_flower_cannot_name_is_refused(tmp_path: Path, dataset: Path, authority: Path) -> None:
    with pytest.raises(ConfigError, match="quotes"):
        init(tmp_path / 'the "east"', dataset, authority)
    with pytest.raises(ConfigError, match="quotes"):
        CoordinatorHome.create(tmp_path / "it's", ServerSettings(name="lab"))
    assert not (tmp_path / "it's").exists()


def test_a_home_is_made_once(tmp_path: Path, dataset: Path, authority: Path, node: Node) -> None:
    ledger = node.home.ledger.path.read_bytes()
    with pytest.raises(ConfigError, match="is a client home already"):
        init(node.root, dataset, authority)
    assert node.home.ledger.path.read_bytes() == ledger


def test_what_would_fail_later_is_refused_before_anything_starts(node: Node, tmp_path: Path) -> None:
    (node.root / "node.key").chmod(0o640)
    with pytest.raises(SecretExposed, match="0640"):
        node.check()
    (node.root / "node.key").chmod(0o600)
    policy = node.root / "policy.yaml"
    good = policy.read_text()
    policy.write_text(good + "lifetime_epsilom: 80\n")
    with pytest.raises(ConfigError, match=r"lifetime_epsilom.*Did you mean lifetime_epsilon"):
        Node(Home(node.root)).check()
    policy.write_text(good.replace("stays.csv", "gone.csv"))
    with pytest.raises(SourceMissing, match=r"gone\.csv cannot be read"):
        Node(Home(node.root)).check()
    policy.write_text(good)
    (node.root / "connection.yaml").unlink()
    with pytest.raises(ConfigError, match="does not know its coordinator"):
        Node(Home(node.root)).check()
    with pytest.raises(NotFound, match="not a client's home"):
        CliRunner().invoke(sottovoce.app, ["client", "start", str(tmp_path / "none")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("node.key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "not a readable private key"),
        ("node.key", None, "missing"),
        ("identity.key", b"short", "not an identity key"),
        ("identity.key", bytes(64), "not the card of"),
        ("card.json", b"{}", "not a client's card"),
        ("connection.yaml", b"coordinator: nowhere\n", "coordinator"),
        ("connection.yaml", b"coordinator: a:1\ncoordinater: b:1\n", "Did you mean coordinator"),
        ("contract.yaml", b"label: {}\n", "contract.yaml"),
    ],
)
def test_damaged_files_are_refused_before_anything_starts(
    node: Node, name: str, content: bytes | None, told: str
) -> None:
    path = node.root / name
    path.unlink(missing_ok=True)
    if content is not None:
        write_secret(path, content)
    with pytest.raises(ConfigError, match=told) as caught:
        CliRunner().invoke(sottovoce.app, ["client", "start", str(node.root)], catch_exceptions=False)
    assert caught.value.remedy
    assert not (node.root / "logs").exists()


@pytest.mark.processes
def test_a_key_that_this_user_may_not_read_is_named(node: Node) -> None:
    (node.root / "node.key").chmod(0)
    command = [sys.executable, "-m", "sottovoce", "client", "start", str(node.root)]
    if os.geteuid() == 0:  # who may read everything, unless that is taken away
        powers = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", powers, "--inh-caps", powers, *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "error[access-denied]" in done.stderr
    assert "node.key: permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_owner_s_contract_is_kept_if_the_data_has_its_columns(
    tmp_path: Path, dataset: Path, authority: Path
) -> None:
    whole = settings(dataset)
    for name, tree in {"alone": whole["data"], "config": whole}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        assert "your data has its 4 columns" in init(tmp_path / name, dataset, authority, "--contract", str(path))
        assert Home(tmp_path / name).contract == DataContract.model_validate(whole["data"])
    whole["data"]["columns"]["pulse"] = {"kind": "numeric", "low": 0, "high": 300}
    path.write_text(yaml.safe_dump(whole))
    with pytest.raises(ColumnMissing, match="pulse"):
        init(tmp_path / "lacking", dataset, authority, "--contract", str(path))
    assert not (tmp_path / "lacking").exists()


def test_init_takes_what_a_coordinator_may_ask_for(tmp_path: Path, dataset: Path, authority: Path) -> None:
    allowed = ("--allow", "join", "--allow", "validate", "--max-parameters", "1000", "--no-masks")
    init(tmp_path / "shy", dataset, authority, *allowed)
    policy = Home(tmp_path / "shy").policy
    assert policy.allowed_actions == ("join", "validate")
    assert (policy.max_parameters, policy.require_masks) == (1000, False)
    with pytest.raises(ConfigError, match="allowed_actions"):
        init(tmp_path / "wrong", dataset, authority, "--allow", "everything")


def test_the_link_is_told_in_words(node: Node) -> None:
    assert "nothing yet" in node.link
    log = node.root / "logs" / "supernode.log"
    log.parent.mkdir()
    for said, told in {
        "ERROR: Exit Code: 305\n[code: 2004] Failed to activate SuperNode.\n": "does not let this node in",
        "INFO: SuperNode ID: 7\n": "connected",
        "WARNING: Connection attempt failed, retrying in 2.87 seconds\n": "does not answer",
        "INFO: Starting Flower SuperNode\n": "connecting",
        "INFO: SuperNode terminated gracefully.\n": "clock",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed\n": "ca.crt",
    }.items():
        with log.open("a") as file:
            file.write(f"{said}INFO: Waiting for application shutdown.\n")
        assert told in node.link


def test_a_node_without_its_ledger_does_not_start(node: Node) -> None:
    node.home.ledger.path.unlink()
    with pytest.raises(LedgerMissing):
        node.check()
