"""Airflow: the exported file parses without a warning, and runs, is killed, cleared and refused as its users expect."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.lifecycle import lifecycle_dag
from tests.interop.support import call, environment, exported, lifecycle, once_each
from tests.test_cli import sottovoce
from tests.test_parts import charged

pytestmark = pytest.mark.interop

BIN = environment("airflow")
TRIGGER = ("dags", "trigger", "stay", "--run-id", "by-hand", "--logical-date", "2026-02-03T04:05:06+00:00")


class Airflow:
    """One installation with its own database and one exported file."""

    def __init__(self, place: Path, schedule: str = "0 2 29 2 *") -> None:
        self.place, self.workspace = place, place / "w"
        config = lifecycle(place, training__local_epochs=400)
        self.dags = place / "airflow" / "dags"
        self.dags.mkdir(parents=True)
        made = exported("airflow", config, "--workspace", self.workspace, "--schedule", schedule)
        self.file = made.rename(self.dags / "life.py")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
        self.env = {
            **os.environ,
            "AIRFLOW_HOME": str(place / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__API__PORT": port,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self.name = "stay"

    def start(self, *words: str, aside: bool = False) -> subprocess.Popen[str]:
        """aside: what it says goes into a file."""
        command = [str(BIN / "airflow"), *words]
        with open(self.place / f"{words[0]}.log", "w") as log:
            out = log if aside else subprocess.PIPE
            return subprocess.Popen(
                command, env=self.env, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )

    def run(self, *words: str) -> tuple[int, str]:
        with self.start(*words) as process:
            said, _ = process.communicate(timeout=900)
        return process.returncode, said

    def until(self, true: Callable[[], bool], seconds: float = 300) -> bool:
        """Wait for it."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if true():
                return True
            time.sleep(2)
        return False

    def trains(self, process: psutil.Process) -> bool:
        words = process.info["cmdline"] or []
        return "training" in words and str(self.workspace) in words and "sottovoce" in words

    def rounds(self) -> int:
        """How many rounds of training every client was charged for."""
        homes = self.workspace.glob("clients/*/ledgers/*.jsonl")
        return min((path.read_text().count("/train/") for path in homes), default=0)

    def states(self) -> dict[str, tuple[str, int]]:
        """Of each task of the newest run: its state, and how often it was tried."""
        code = (
            "import json; from airflow.models import DagRun; from airflow.utils.session import create_session\n"
            "with create_session() as session:\n"
            "    run = session.query(DagRun).order_by(DagRun.id.desc()).first()\n"
            "    told = {ti.task_id: (ti.state, ti.try_number) for ti in run.get_task_instances(session=session)}\n"
            "    print('TOLD', json.dumps(told))"
        )
        done = call([BIN / "python", "-c", code], **self.env)
        assert "TOLD " in done.stdout, done.stderr
        return {name: tuple(state) for name, state in json.loads(done.stdout.split("TOLD ")[1]).items()}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    made = Airflow(tmp_path_factory.mktemp("airflow"))
    code, said = made.run("db", "migrate")
    assert code == 0, said
    return made


def test_the_file_parses_without_a_warning(airflow: Airflow) -> None:
    code = (
        "from airflow.dag_processing.dagbag import DagBag; from airflow.serialization.serialized_objects import "
        f"DagSerialization; bag = DagBag({str(airflow.file)!r})\n"
        "assert not bag.import_errors, bag.import_errors\nassert not bag.captured_warnings, bag.captured_warnings\n"
        "dag = bag.dags['stay']; DagSerialization.to_dict(dag)\n"
        "print('TASKS', *[task.task_id for task in dag.topological_sort()])\n"
        "print('RULES', {task.retries for task in dag.tasks}, {str(t.execution_timeout) for t in dag.tasks}, "
        "dag.max_active_runs)"
    )
    done = call([BIN / "python", "-W", "error", "-c", code], **airflow.env)
    assert f"TASKS {' '.join(lifecycle_dag().order)}" in done.stdout, done.stdout + done.stderr
    assert "RULES {3} {'1 day, 0:00:00'} 1" in done.stdout
    for schedule in ("@daily", None):
        more = ["--schedule", schedule] if schedule else []
        other = exported("airflow", airflow.place / "stay.yaml", "--workspace", airflow.workspace, *more)
        done = call([BIN / "python", "-W", "error", other.rename(airflow.place / "other.py")], **airflow.env)
        assert done.returncode == 0, done.stderr


def test_a_task_that_is_killed_is_tried_again_and_charges_once(airflow: Airflow) -> None:
    """With the scheduler and all, as it runs at people's."""
    parts = [airflow.start(part, aside=True) for part in ("api-server", "scheduler", "dag-processor")]
    try:
        assert airflow.until(lambda: airflow.run(*TRIGGER)[0] == 0)
        assert airflow.until(lambda: airflow.rounds() >= 1), airflow.states()
        (found,) = [one for one in psutil.process_iter(["cmdline"]) if airflow.trains(one)]
        os.killpg(found.pid, signal.SIGKILL)
        assert airflow.until(lambda: airflow.states().get("deployment", ("", 0))[0] == "success"), airflow.states()
        assert airflow.states()["training"] == ("success", 2)
    finally:
        for part in parts:
            os.killpg(part.pid, signal.SIGTERM)
        for part in parts:
            part.wait(60)
    states = airflow.states()
    assert {state for state, _ in states.values()} == {"success"}, states
    assert once_each(airflow.workspace)
    listed = sottovoce("runs", "list", "--workspace", airflow.workspace).stdout
    assert (len(listed.splitlines()), "COMPLETE" in listed) == (1, True), listed


def test_what_a_second_try_cannot_mend_is_not_tried_again(airflow: Airflow) -> None:
    config, before = airflow.place / "stay.yaml", charged(airflow.workspace)
    config.write_text(config.read_text().replace("rounds: 3", "rounds: 4"))
    try:
        _, said = airflow.run("dags", "test", airflow.name, "2026-03-03T00:00:00+00:00")
    finally:
        config.write_text(config.read_text().replace("rounds: 4", "rounds: 3"))
    states = airflow.states()
    assert states["design"] == ("failed", 1), (states, said[-3000:])
    assert states["training"][0] == "upstream_failed"
    assert "stay.yaml has changed" in said
    assert "Export it again" in said
    assert charged(airflow.workspace) == before, "nothing was charged"
    conf = json.dumps({"set": ["training.rouns=4"]})
    _, said = airflow.run("dags", "test", airflow.name, "2026-03-04T00:00:00+00:00", "--conf", conf)
    assert airflow.states()["design"] == ("failed", 1)
    assert "Did you mean" in said
