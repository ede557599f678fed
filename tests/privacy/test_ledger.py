"""The ledger: what was reserved counts, for ever, whatever happens to the process or to the file."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privacy.accounting import Release, epsilon_of
from privacy.errors import BudgetExhausted, LedgerCorrupt, LedgerMissing, LedgerNewer, LedgerRolledBack, ReplayRefused
from privacy.ledger import Budget, Ledger
from privacy.population import EVERYONE, Population

ROUND = Release("sampled-gaussian", 1.0, 0.1, 10)
TRAINING, HELD_OUT = Population(0.2, 1.0, "b"), Population(0.0, 0.2, "b")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledgers" / "source.jsonl", Budget(8.0, 1e-5))
    made.create()
    return made


def reopened(ledger: Ledger) -> Ledger:
    return Ledger(ledger.path, ledger.budget)


def test_reserve_counts_before_commit_and_across_restarts(ledger: Ledger) -> None:
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    assert reopened(ledger).spent() == pytest.approx(epsilon_of([ROUND], 1e-5))
    for number in range(2, 11):
        reopened(ledger).reserve(f"run/train/{number}", [ROUND], TRAINING)
        reopened(ledger).commit(f"run/train/{number}")
    assert reopened(ledger).spent() == pytest.approx(7.047, abs=0.01)


def test_past_the_budget_nothing_is_charged(ledger: Ledger) -> None:
    for number in range(12):
        ledger.reserve(f"run/train/{number}", [ROUND], TRAINING)
        if ledger.spent() > 7.3:
            break
    rows = len(ledger.rows())
    with pytest.raises(BudgetExhausted, match=r"epsilon 8\.\d+, the policy allows 8\.00; spent so far 7") as caught:
        ledger.reserve("run/train/last", [Release("sampled-gaussian", 1.0, 0.1, 20)], TRAINING)
    assert caught.value.travelling()[1].startswith("this would bring")
    with pytest.raises(BudgetExhausted):
        ledger.affords([([Release("sampled-gaussian", 1.0, 0.1, 30)], TRAINING)])
    assert len(ledger.rows()) == rows


def test_a_replay_is_refused_also_after_void(ledger: Ledger) -> None:
    ledger.reserve("run/train/1", [ROUND], EVERYONE)
    with pytest.raises(ReplayRefused):
        reopened(ledger).reserve("run/train/1", [ROUND], EVERYONE)
    ledger.void("run/train/1")
    assert ledger.spent() == 0
    with pytest.raises(ReplayRefused):
        ledger.reserve("run/train/1", [ROUND], EVERYONE)
    with pytest.raises(ReplayRefused):
        ledger.commit("run/train/1")
    with pytest.raises(ReplayRefused):
        ledger.commit("never")


def test_disjoint_populations_compose_in_parallel_and_overlapping_ones_do_not(ledger: Ledger) -> None:
    one = epsilon_of([Release("gaussian", 4.0)], 1e-5)
    two = epsilon_of([Release("gaussian", 4.0, 1.0, 2)], 1e-5)
    ledger.reserve("a/train/1", [Release("gaussian", 4.0)], TRAINING)
    ledger.reserve("a/evaluate/1", [Release("gaussian", 4.0)], HELD_OUT)
    assert ledger.spent() == pytest.approx(one)
    ledger.reserve("b/evaluate/1", [Release("gaussian", 4.0)], Population(0.0, 0.3, "b"))
    assert ledger.spent() == pytest.approx(two)


def test_populations_of_different_bases_never_count_as_disjoint(ledger: Ledger) -> None:
    ledger.reserve("a/train/1", [Release("gaussian", 4.0)], Population(0.2, 1.0, "old columns"))
    ledger.reserve("b/evaluate/1", [Release("gaussian", 4.0)], Population(0.0, 0.2, "new columns"))
    assert ledger.spent() == pytest.approx(epsilon_of([Release("gaussian", 4.0, 1.0, 2)], 1e-5))


def test_beyond_many_bases_everything_is_added_up(ledger: Ledger) -> None:
    for number in range(9):
        ledger.reserve(f"r{number}/train/1", [Release("gaussian", 40.0)], Population(0.2, 1.0, f"basis {number}"))
        ledger.reserve(f"r{number}/evaluate/1", [Release("gaussian", 40.0)], Population(0.0, 0.2, f"basis {number}"))
    assert ledger.spent() == pytest.approx(epsilon_of([Release("gaussian", 40.0, 1.0, 18)], 1e-5))


def test_a_missing_ledger_is_refused_not_recreated(ledger: Ledger) -> None:
    ledger.path.unlink()
    with pytest.raises(LedgerMissing, match="missing"):
        ledger.spent()
    with pytest.raises(LedgerCorrupt, match="exists already"):
        ledger.create()


def test_every_edited_byte_is_noticed(ledger: Ledger) -> None:
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    content = ledger.path.read_bytes()
    for at in range(0, len(content) - 1, 7):
        changed = bytearray(content)
        changed[at] ^= 1
        ledger.path.write_bytes(bytes(changed))
        with pytest.raises((LedgerCorrupt, LedgerRolledBack)):
            ledger.rows()


def test_truncation_and_restore_from_backup_are_noticed(ledger: Ledger) -> None:
    backup = ledger.path.read_bytes()
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    ledger.commit("run/train/1")
    ledger.path.write_bytes(backup)
    with pytest.raises(LedgerRolledBack) as caught:
        ledger.spent()
    assert "data owner" in caught.value.remedy
    ledger.path.write_bytes(b"")
    with pytest.raises(LedgerCorrupt):
        ledger.spent()


def test_a_torn_last_line_never_allowed_anything_and_is_cut(ledger: Ledger) -> None:
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    rows = ledger.rows()
    with ledger.path.open("ab") as out:
        out.write(b'{"format":1,"seq":2,"time"')
    assert ledger.rows() == rows
    ledger.commit("run/train/1")


def test_a_crash_between_row_and_head_is_mended(ledger: Ledger) -> None:
    head = ledger.path.with_suffix(".head").read_bytes()
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    ledger.path.with_suffix(".head").write_bytes(head)
    assert ledger.has("run/train/1")
    assert ledger.head() == json.loads(ledger.path.read_bytes().splitlines()[-1])["hash"]


def test_files_are_private(ledger: Ledger) -> None:
    assert ledger.path.stat().st_mode & 0o077 == 0


CHARGER = """
import sys, pathlib
from privacy.ledger import Ledger, Budget
from privacy.population import EVERYONE
from privacy.accounting import Release
ledger = Ledger(pathlib.Path(sys.argv[1]), Budget(1e9, 1e-5))
for number in range(int(sys.argv[2])):
    ledger.reserve(f"{sys.argv[3]}/train/{number}", [Release("gaussian", 1000.0)], EVERYONE)
    print(number, flush=True)
"""


@pytest.mark.processes
def test_two_processes_at_once_lose_nothing(ledger: Ledger) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", CHARGER, str(ledger.path), "10", name], stdout=subprocess.DEVNULL)
        for name in ("a", "b")
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    assert len(ledger.rows()) == 21


@pytest.mark.processes
def test_kill_9_keeps_everything_that_was_allowed(ledger: Ledger) -> None:
    command = [sys.executable, "-c", CHARGER, str(ledger.path), "10000", "a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        allowed = [process.stdout.readline() for _ in range(5)]
        os.kill(process.pid, signal.SIGKILL)
        allowed += process.stdout.readlines()
    assert len(ledger.rows()) - 1 >= len([line for line in allowed if line.strip()])


def rewritten(ledger: Ledger, **fields: object) -> None:
    """The last row says something else, under hashes that are right: as another version would have written it."""
    *before, last = ledger.path.read_text().splitlines()
    row = {**json.loads(last), **fields}
    del row["hash"]
    digest = hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    ledger.path.write_text("\n".join([*before, json.dumps({**row, "hash": digest})]) + "\n")
    ledger.path.with_suffix(".head").write_text(digest + "\n")


KNOWN = {"mechanism": "gaussian", "noise_multiplier": 2.0, "sampling_rate": 1.0, "count": 1, "unit": "record"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"format": 2}, "format 2"),
        ({"kind": "refund"}, "'refund'"),
        ({"releases": [{**KNOWN, "mechanism": "laplace"}]}, "'laplace'"),
        ({"releases": [{**KNOWN, "unit": "household"}]}, "'household'"),
        ({"releases": [{**KNOWN, "order": 8}]}, "order"),
        ({"releases": [{**KNOWN, "noise_multiplier": float("nan")}]}, "noise_multiplier"),
        ({"population": {"low": 0.0, "high": 1.0, "basis": "", "key": "person"}}, "key"),
    ],
)
def test_what_a_newer_version_wrote_is_refused_and_never_guessed(
    ledger: Ledger, fields: dict[str, object], told: str
) -> None:
    ledger.reserve("run/train/1", [ROUND], TRAINING)
    rewritten(ledger, **fields)
    content = ledger.path.read_bytes()
    for asking in (ledger.rows, ledger.spent, lambda: ledger.reserve("run/train/2", [ROUND], TRAINING)):
        with pytest.raises(LedgerNewer, match=f"line 2, was written by a newer version of Sottovoce: .*{told}"):
            asking()
    assert ledger.path.read_bytes() == content


@pytest.mark.parametrize(
    "values",
    [
        ("laplace", 2.0),
        ("gaussian", -1.0),
        ("gaussian", float("nan")),
        ("sampled-gaussian", 1.0, 0.0),
        ("sampled-gaussian", 1.0, 1.5),
        ("gaussian", 1.0, 1.0, 0),
        ("gaussian", 1.0, 1.0, 1, "household"),
    ],
)
def test_a_release_that_no_accountant_knows_is_none(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|unknown"):
        Release(*values)
