"""One run in several processes, as a scheduler starts them: ended, killed, refused, gone on with."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from clients.home import Home
from tests.support import write_config, write_table
from tests.test_cli import SOTTOVOCE, sottovoce

pytestmark = pytest.mark.processes

NAME = "nightly/scheduled__2026-11-26T02:00:00+00:00"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("parts")
    return write_config(place / "stay.yaml", write_table(place), training__rounds=6, training__local_epochs=100)


def charged(workspace: Path) -> set[tuple[str, ...]]:
    """The charges of each client, by purpose and round."""
    every = set()
    for home in (workspace / "clients").glob("*/"):
        rows = [row.id for row in Home(home).ledger.rows() if row.kind == "reserve"]
        assert len(rows) == len(set(rows))
        every.add(tuple(sorted(row.partition("/")[2] for row in rows)))
    return every


def test_what_is_wrong_is_said_before_anything_starts(config: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = sottovoce("simulate", config, "--workspace", tmp_path / "w", "--until", "trainign")
    assert (done.returncode, "Did you mean training?" in done.stderr) == (2, True)
    done = sottovoce("simulate", config, "--workspace", tmp_path / "w", "--until", "training", "--ask")
    assert (done.returncode, "Leave out one" in done.stderr) == (2, True)
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "w" / "clients").exists()


def test_a_run_is_done_in_parts_stopped_killed_and_gone_on_with(config: Path, tmp_path: Path) -> None:
    place = ("--workspace", tmp_path / "w")

    def part(*more: object) -> list[str]:
        return [*map(str, ("simulate", config, *place, "--run", NAME, *more))]

    def cut_off(number: signal.Signals, after: str) -> str:
        """Start training, send a signal when a line was said; all that it said."""
        process = subprocess.Popen(
            [*SOTTOVOCE, *part("--until", "training")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = ""
        assert process.stdout
        for line in process.stdout:
            said += line
            if after in line:
                break
        if number == signal.SIGTERM:
            second = sottovoce(*part("--until", "training"))
            assert (second.returncode, "another run is using" in second.stderr) == (8, True)
        process.send_signal(number)
        said += process.communicate(timeout=120)[0]
        assert process.returncode == (130 if number == signal.SIGTERM else -number), said
        return said

    assert sottovoce(*part("--until", "preprocessing")).returncode == 0
    stages = sottovoce("stages", NAME, *place).stdout
    assert re.search(r"preprocessing +done\ntraining +to do\n", stages), stages
    refused = sottovoce(*part("--set", "training.seed=9", "--until", "training"))
    assert (refused.returncode, "another configuration" in refused.stderr) == (2, True)
    rounds = re.findall(r"round (\d)/6", cut_off(signal.SIGTERM, "round 2/6"))
    time.sleep(3)  # until the last worker has noticed
    rounds += re.findall(r"round (\d)/6", cut_off(signal.SIGKILL, "round 4/6"))
    time.sleep(3)
    states = {line.split()[0]: line.split()[1] for line in sottovoce("stages", NAME, *place).stdout.splitlines()}
    assert (states["ingestion"], states["training"], states["evaluation"]) == ("done", "interrupted", "to")
    done = sottovoce(*part("--json"))
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    rounds += [str(event["round"]) for event in events if event["event"] == "RoundFinished"]
    assert rounds == list("123456"), "each round once"
    assert events[-1]["event"] == "Report"
    assert charged(tmp_path / "w") == {("evaluate/1", *(f"train/{number}" for number in range(1, 7)), "validate/1")}
    assert len(sottovoce("runs", "list", *place, "--json").stdout.splitlines()) == 1
    assert set(re.findall(r" (\w+)$", sottovoce("stages", NAME, *place).stdout, re.M)) == {"done"}
