"""The whole circle with real processes: served, asked, told what became of it, noticed, paid for, trained, won."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clients.home import Home
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace
from privacy.errors import ServingError
from server.serving.running import call
from tests.support import table, write_config
from tests.test_cli import SOTTOVOCE, sottovoce

pytestmark = pytest.mark.processes


def turned(rows: int, seed: int) -> pd.DataFrame:
    """Stays after a change of the world: what was a risk protects, and the other way round."""
    frame = table(rows, seed)
    frame["died"] = np.where(frame["died"] == "yes", "no", "yes")
    return frame


class Asking:
    """A ward that asks about each of its patients, and says later what became of them."""

    def __init__(self, url: str, patients: Callable[[int], pd.DataFrame]) -> None:
        self.url, self.patients = url, patients
        self.failures: list[str] = []
        self.versions: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        number = 0
        while not self._stop.is_set():
            for row in self.patients(number).to_dict("records"):
                number += 1
                try:
                    raw = {"age": row["age"], "lab": row["lab"], "unit": row["unit"]}
                    answer = call(f"{self.url}/predict", {"rows": [raw], "subject": f"patient {number}"})
                    self.versions.append(answer["version"])
                    call(f"{self.url}/feedback", {"id": answer["id"], "outcome": row["died"]})
                except ServingError as error:
                    self.failures.append(error.cause)
                if self._stop.wait(0.005):
                    return


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([*SOTTOVOCE, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()
        if process.stdout:
            process.stdout.close()


def test_the_world_turns_and_the_model_follows_while_its_budget_lasts(tmp_path: Path) -> None:
    data, workspace = tmp_path / "stays.csv", tmp_path / "w"
    table(4000).to_csv(data, index=False)
    config = write_config(
        tmp_path / "stay.yaml",
        data,
        privacy={"unit": "record", "epsilon": 8.0, "delta": 1e-5},
        simulation__lifetime_epsilon=13.0,
        registration={"promotion": "earned", "min_roc_auc": 0.55, "max_error": 0.2},
        serving={"port": 0, "grpc_port": 0, "poll_seconds": 0.2},
        watch={
            "look_seconds": 0.5,
            "rest_hours": 0,
            "budget_hours": 0.0005,
            "sources_hours": None,
            "outcomes": 200,
            "ramp": {"shares": [0.3, 0.6], "subjects": 50},
        },
    )
    done = sottovoce("simulate", config, "--workspace", workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    registry = Registry(Workspace(workspace).registry_url, workspace / "models")
    serving = started("serve", "--config", config, "--workspace", workspace)
    watching = started("watch", config, "--workspace", workspace, "--json")
    heard: list[dict[str, Any]] = []
    reading = threading.Thread(
        target=lambda: heard.extend(json.loads(line) for line in watching.stdout or ()), daemon=True
    )
    reading.start()
    asking: Asking | None = None

    def wait_for(what: str, count: int = 1, seconds: float = 150) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(found := [one for one in heard if one["what"] == what]) >= count:
                return found[-1]
            assert watching.poll() is None, heard
            assert what == "refused" or not any(one["what"] in ("refused", "failed") for one in heard), heard
            time.sleep(0.1)
        raise AssertionError(f"not {what} within {seconds} s: {heard}")

    try:
        url = ""
        for line in serving.stdout or ():
            if "answers at" in line:
                url = line.split(" at ")[1].split("/predict")[0]
                break
        turned(4000, 1).to_csv(data, index=False)
        asking = Asking(url, lambda number: turned(500, 2 + number))
        ran = wait_for("ran")
        assert "v1's roc_auc is" in ran["why"]
        assert "v2 is challenger" in ran["why"]
        wait_for("began")
        promoted = wait_for("promoted")
        assert (promoted["version"], "v2 is better" in promoted["why"]) == (2, True)
        champion = registry.champion("stay")
        assert champion
        assert champion.version == 2
        time.sleep(1)
        assert asking.versions[-1] == 2

        charged = _charged(workspace)
        asking.patients = lambda number: table(500, 10_000 + number)
        table(4000, 3).to_csv(data, index=False)
        refused = wait_for("refused")
        assert "v2's roc_auc is" in refused["why"]
        assert "could pay for this run" in refused["why"]
        assert _charged(workspace) == charged
        champion = registry.champion("stay")
        assert champion
        assert champion.version == 2
    finally:
        if asking:
            asking.stop()
        ended(watching)
        ended(serving)
    assert asking
    assert asking.failures == []
    assert {1, 2} == set(asking.versions)
    found = sottovoce("experiments", "list", "--workspace", workspace, "--json").stdout
    assert '"challenger": 2' in found
    assert '"verdict": "promote"' in registry.version("stay", 2).said["evidence"], "as it was when it was decided"
    assert "promoted" in sottovoce("watch", config, "--workspace", workspace, "--log").stdout


def _charged(workspace: Path) -> int:
    return sum(len(Home(home).ledger.rows()) for home in (workspace / "clients").glob("*/") if home.is_dir())
