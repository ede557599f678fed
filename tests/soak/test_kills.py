"""`kill -9` of a simulation again and again, at moments drawn at random: what was finished stays finished."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clients.home import Home
from tests.support import write_config, write_table

pytestmark = pytest.mark.soak

ROUNDS, KILLS = 12, 6
COMMAND = [sys.executable, "-m", "sottovoce"]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_at_any_moment_loses_at_most_the_round_in_progress(tmp_path: Path, seed: int) -> None:
    config = write_config(
        tmp_path / "stay.yaml", write_table(tmp_path), training__rounds=ROUNDS, training__local_epochs=60
    )
    place = ("--workspace", str(tmp_path / "w"))
    draw, command, done = random.Random(seed), [*COMMAND, "simulate", str(config), *place], 0
    for kill in range(KILLS + 1):
        with (tmp_path / f"{kill}.out").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
            if kill < KILLS:
                time.sleep(draw.uniform(1.0, 25.0))
                process.send_signal(signal.SIGKILL)
            code = process.wait(300)
        said = (tmp_path / f"{kill}.out").read_text()
        rounds = [int(number) for number in re.findall(rf"round (\d+)/{ROUNDS}", said)]
        assert rounds == list(range(done + 1, done + 1 + len(rounds))), f"after {done}: {said}"
        assert "Traceback" not in said
        done += len(rounds)
        time.sleep(3)  # until the last worker has noticed
        if runs := list_runs(place):
            command = [*COMMAND, "simulate", "--resume", runs[0], *place]
    assert code == 0, said
    assert done == ROUNDS
    for home in (tmp_path / "w" / "clients").glob("*/"):
        charged = [row.id for row in Home(home).ledger.rows() if row.kind == "reserve" and "/train/" in row.id]
        assert len(charged) == len(set(charged)) == ROUNDS
        assert len({charge.partition("/")[0] for charge in charged}) == 1


def list_runs(place: tuple[str, str]) -> list[str]:
    if not Path(place[1], "metadata.db").exists():
        return []
    listed = subprocess.run([*COMMAND, "runs", "list", *place, "--json"], capture_output=True, text=True, check=True)
    return [json.loads(line)["id"] for line in listed.stdout.splitlines()]
