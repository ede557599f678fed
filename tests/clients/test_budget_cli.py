"""sottovoce budget: what a person reads about plans and ledgers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sottovoce
from clients.home import Home
from privacy.accounting import Release
from privacy.errors import LedgerError, NotFound
from privacy.population import Population
from tests.support import configured, homes_for, write_config

RELEASE = Release("sampled-gaussian", 2.0, 0.1, 50)


@pytest.fixture
def home(tmp_path: Path, dataset: Path) -> Home:
    home = Home(homes_for(configured(dataset), tmp_path)["east"])
    for number in (1, 2, 3):
        home.ledger.reserve(f"0123456789abcdef/train/{number}", [RELEASE], Population(0.25, 1.0, "b"))
        home.ledger.commit(f"0123456789abcdef/train/{number}")
    home.ledger.reserve("fedcba9876543210/evaluate/1", [Release("gaussian", 5.0)], Population(0.0, 0.25, "b"))
    return home


def said(*arguments: object) -> str:
    result = CliRunner().invoke(sottovoce.app, ["budget", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_ledger_reads_as_releases_with_what_is_left(home: Home) -> None:
    text = said("show", home.root)
    assert f"epsilon {home.ledger.spent():.2f} of {home.policy.lifetime_epsilon:.2f} spent" in text
    trained = next(line for line in text.splitlines() if "train 01234567" in line)
    assert "25% to 100%" in trained
    assert " 150 " in trained
    assert trained.rstrip().endswith("released")
    assert next(line for line in text.splitlines() if "evaluate" in line).rstrip().endswith("reserved")


def test_json_has_every_entry(home: Home) -> None:
    told = json.loads(said("show", home.root, "--json"))
    assert told["client"] == "east"
    assert told["spent"] == pytest.approx(home.ledger.spent(), abs=1e-4)
    assert [(entry["times"], entry["steps"]) for entry in told["entries"]] == [(3, 150), (1, 1)]


def test_a_chain_that_holds_and_one_that_does_not(home: Home) -> None:
    assert "holds: 8 rows" in said("verify", home.root)
    content = home.ledger.path.read_text()
    home.ledger.path.write_text(content.replace('"count":50', '"count":5', 1))
    with pytest.raises(LedgerError):
        said("verify", home.root)


def test_a_plan_says_what_will_be_spent_before_anything_is(home: Home, tmp_path: Path, dataset: Path) -> None:
    config = write_config(tmp_path / "c.yaml", dataset)
    before = home.ledger.path.read_bytes()
    text = said("plan", config, "--rows", 2000, "--home", home.root, "--set", "privacy.epsilon=2")
    assert home.ledger.path.read_bytes() == before
    assert "RDP would say" in text
    assert "as configured" in text
    assert "epsilon 4 " in text
    assert "east after" in text
    curves = text[text.index("if one thing changes") :]
    assert all(f"\n  {setting} " in curves for setting in ("noise", "rounds", "batch", "cohort"))
    assert curves.count("as configured") == 3
    assert "would refuse" in said("plan", config, "--home", home.root, "--set", "privacy.epsilon=25")


def test_a_client_level_plan_shows_what_fewer_honest_clients_would_mean(tmp_path: Path, dataset: Path) -> None:
    private = {"unit": "client", "epsilon": 4.0}
    text = said("plan", write_config(tmp_path / "c.yaml", dataset, privacy=private, federation__min_cohort=5))
    assert "all of one client's data against none" in text
    assert "divided among 4 honest clients" in text
    epsilons = [float(line.split()[-1]) for line in text.splitlines() if "█" in line and "configured" not in line]
    assert max(epsilons) > 8, "with one honest client it is no longer what was promised"


def test_a_run_that_is_not_private_says_so(tmp_path: Path, dataset: Path) -> None:
    assert "NOT PRIVATE" in said("plan", write_config(tmp_path / "c.yaml", dataset), "--set", "privacy=none")


def test_what_is_not_a_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="not a client home"):
        said("show", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="no client home"):
        said("verify")
