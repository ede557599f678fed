"""One client's rounds: charged before data is touched, whatever happens afterwards, and never twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clients.home import Home
from privacy.accounting import Release
from privacy.errors import BudgetExhausted, CohortTooSmall, ReplayRefused, StageFailed
from privacy.ledger import Ledger
from privacy.population import EVERYONE
from tests.support import Federation, Killed, configured

pytestmark = pytest.mark.whole


def charged_before_data_is_touched(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    from clients import training

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(training, "train_round", die)
    with pytest.raises((StageFailed, Killed)):
        federation.run()
    charged = [name for name in federation.homes if "train" in federation.charges(name)]
    assert charged
    assert Home(federation.homes[charged[0]]).ledger.spent() > 0


def test_the_charge_is_on_disk_before_the_data_is_touched(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_before_data_is_touched(federation, monkeypatch)


def test_a_charge_after_the_release_is_caught(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.reserve
    waiting: dict[str, tuple[Any, ...]] = {}

    def later(self: Ledger, id: str, *rest: Any) -> None:
        waiting[id] = rest

    def now(self: Ledger, id: str) -> None:
        real(self, id, *waiting[id])

    monkeypatch.setattr(Ledger, "reserve", later)
    monkeypatch.setattr(Ledger, "commit", now)
    with pytest.raises(AssertionError):
        charged_before_data_is_touched(federation, monkeypatch)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"privacy__delta": 0.5}, "this client's policy states its epsilon at"),
        ({"privacy__epsilon": 1e-6, "privacy__delta": 1e-9}, "no noise multiplier below"),
        ({"privacy__epsilon": 19.9, "simulation__lifetime_epsilon": 8.0}, "the policy allows 8.00"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_and_nothing_is_charged(
    tmp_path: Path, dataset: Path, changes: dict[str, Any], told: str
) -> None:
    federation = Federation(tmp_path, configured(dataset, **changes))
    with pytest.raises((BudgetExhausted, CohortTooSmall), match="0 of 6 clients answered"):
        federation.run()
    for home in federation.homes.values():
        assert told in (home / "client.log").read_text()
        assert not [row for row in Home(home).ledger.rows() if "/train/" in row.id]


WORKER = """
import sys, pathlib, time
from privacy.accounting import Release
from privacy.ledger import Budget, Ledger
from privacy.population import EVERYONE
ledger = Ledger(pathlib.Path(sys.argv[1]), Budget(float(sys.argv[3]), 1e-5))
ledger.reserve(sys.argv[2], [Release("gaussian", 5.0)], EVERYONE)
print("reserved", flush=True)
time.sleep(float(sys.argv[4]))
ledger.commit(sys.argv[2])
"""


@pytest.mark.processes
def test_kill_9_between_reserve_and_commit_counts_and_is_not_repeated(federation: Federation) -> None:
    ledger = Home(federation.homes["east"]).ledger
    command = [sys.executable, "-c", WORKER, str(ledger.path), "e/train/1", "20", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "reserved\n"
        os.kill(process.pid, signal.SIGKILL)
    assert ledger.spent() > 0
    with pytest.raises(ReplayRefused):
        ledger.reserve("e/train/1", [Release("gaussian", 5.0)], EVERYONE)
    ledger.commit("e/train/1")
    assert [row.kind for row in ledger.rows()] == ["open", "reserve", "commit"]


@pytest.mark.processes
def test_two_runs_at_once_share_one_budget(federation: Federation) -> None:
    """Six processes want to spend at the same moment what is enough for some: together they stay below the limit."""
    ledger = Home(federation.homes["east"]).ledger
    commands = [[sys.executable, "-c", WORKER, str(ledger.path), f"run{n}/train/1", "1.5", "0"] for n in range(6)]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]
    ended = [process.wait(120) for process in started]
    assert 0 < ended.count(0) < 6
    assert len([row for row in ledger.rows() if row.kind == "reserve"]) == ended.count(0)
    assert ledger.spent() <= 1.5
