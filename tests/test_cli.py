"""The command line as a person uses it: real processes, exit codes, messages, kill -9."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import psutil
import pytest
import yaml

from clients.home import Home
from tests.support import settings, write_config, write_table

pytestmark = pytest.mark.processes

SOTTOVOCE = [sys.executable, "-P", "-m", "sottovoce"]


@lru_cache(maxsize=1)
def elsewhere() -> str:
    """A working folder as people have it: of another project, whose modules are called as ours are. None may run."""
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-elsewhere-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("pipeline", "server", "clients", "privacy", "simulations", "ray", "json"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the working folder was run')")
    return str(folder)


def sottovoce(*arguments: object, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        env.pop(name, None)
    command = [*SOTTOVOCE, *map(str, arguments)]
    where = elsewhere()
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False, cwd=where)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def config(place: Path) -> Path:
    return write_config(place / "stay.yaml", write_table(place), training__rounds=4)


def ray_processes() -> set[int]:
    """Of everybody but the workers that run other tests beside this one; what outlived its parent is nobody's."""
    names, others = ("raylet", "gcs_server", "ray::"), set[int]()
    if "PYTEST_XDIST_WORKER" in os.environ:
        for worker in psutil.Process(os.getppid()).children():
            if worker.pid != os.getpid():
                others |= {process.pid for process in worker.children(recursive=True)}
    return {
        process.pid
        for process in psutil.process_iter(["name", "cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and process.pid not in others
        and any(name in " ".join(process.info["cmdline"] or [process.info["name"] or ""]) for name in names)
    }


def working() -> set[int]:
    """Without the two agents of a node, which hold nothing and take a minute to notice that it is gone."""
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    return {
        pid for pid in ray_processes() if psutil.pid_exists(pid) and not agents & set(psutil.Process(pid).cmdline())
    }


@pytest.fixture(scope="module")
def finished(place: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """One simulation with a question, as `make run` does it."""
    before = ray_processes()
    done = sottovoce("simulate", config, "--workspace", place / "w", "--set", "serving.port=0", "--ask")
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 15
    while ray_processes() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray_processes() - before == set(), "no process is left behind"
    return done


def test_a_simulation_says_what_was_learnt_and_leaves_nothing_behind(
    finished: subprocess.CompletedProcess[str], place: Path
) -> None:
    for told in ("round 4/4  6/6 clients", "Model stay v1 is champion", "ROC-AUC", "lifetime epsilon", "answered   v1"):
        assert told in finished.stdout
    assert finished.stderr == ""


def test_the_same_again_is_free_and_speaks_json(finished: object, place: Path, config: Path) -> None:
    charged = [len(Home(home).ledger.rows()) for home in sorted((place / "w" / "clients").glob("*/"))]
    done = sottovoce("simulate", config, "--workspace", place / "w", "--set", "serving.port=0", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    executed = [event["stage"] for event in events if event["event"] == "StageFinished" and not event["cached"]]
    assert executed == ["enrolment", "blessing", "deployment"], "who looks at the world"
    assert events[-1]["event"] == "Report"
    assert events[-1]["version"] == 1
    assert set(events[-1]["epsilon"]) == {"centre", "east", "harbour", "north", "south", "west"}
    assert charged == [len(Home(home).ledger.rows()) for home in sorted((place / "w" / "clients").glob("*/"))]


def test_runs_and_lineage(finished: object, place: Path) -> None:
    listed = sottovoce("runs", "list", "--workspace", place / "w", "--json").stdout.splitlines()
    run = json.loads(listed[-1])["id"]
    assert re.search(
        r"COMPLETE .* v1  roc_auc 0\.\d+  every record: epsilon",
        sottovoce("runs", "list", "--workspace", place / "w").stdout,
    )
    shown = sottovoce("runs", "show", run, "--workspace", place / "w").stdout
    for stage in ("enrolment", "ingestion", "validation", "training", "evaluation", "registration", "deployment"):
        assert stage in shown
    assert "round-4" in shown
    lineage = sottovoce("lineage", "stay", "--workspace", place / "w").stdout
    assert lineage.startswith("model_version")
    assert "snapshots" in lineage
    digest = lineage.split()[1]
    assert sottovoce("lineage", digest, "--workspace", place / "w").stdout == lineage
    assert json.loads(sottovoce("runs", "show", run, "--workspace", place / "w", "--json").stdout.splitlines()[0])
    assert json.loads(sottovoce("lineage", digest, "--workspace", place / "w", "--json").stdout.splitlines()[0])
    assert sottovoce("runs", "show", "nope", "--workspace", place / "w").returncode == 7
    assert sottovoce("lineage", "nope", "--workspace", place / "w").returncode == 7
    assert sottovoce("runs", "list", "--workspace", place / "none").returncode == 7


def test_runs_are_looked_at_compared_exported_and_audited(finished: object, place: Path, config: Path) -> None:
    workspace = ("--workspace", place / "w")
    run = sottovoce("runs", "list", *workspace).stdout.split()[0]
    shown = sottovoce("runs", "show", run, *workspace, "--open", BROWSER="true")
    assert (shown.returncode, shown.stdout.strip()) == (0, str(place / "w" / "runs" / run / "report.html"))
    assert "<svg" in Path(shown.stdout.strip()).read_text()
    done = sottovoce("compare", run, run, *workspace, "--out", place / "c.html")
    assert done.returncode == 0, done.stderr
    assert run in (place / "c.html").read_text()
    done = sottovoce("export", "airflow", config, *workspace)
    assert (done.returncode, "StageOperator" in done.stdout) == (0, True)
    told = sottovoce("export", "openlineage", run, *workspace).stdout.splitlines()
    assert {json.loads(line)["job"]["name"] for line in told} >= {"stay", "stay.training"}
    done = sottovoce("audit", "--of", run, *workspace, "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "NOT REFUTED"), done.stderr


def test_serve_answers_until_it_is_stopped(finished: object, place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*SOTTOVOCE, "serve", "--workspace", str(place / "w"), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "stay v1 answers at" in process.stdout.readline()
        from server.serving.running import call

        row = {"age": 70, "lab": 6.5, "unit": "intensive"}
        assert call(f"http://127.0.0.1:{port}/predict", {"rows": [row]})["version"] == 1
        taken = sottovoce("serve", "--workspace", place / "w", "--port", port)
        assert (taken.returncode, taken.stderr[:21]) == (9, "error[port-in-use]  1")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "stopped" in out
    nothing = sottovoce("serve", "--workspace", place / "empty")
    assert nothing.returncode == 7
    assert "sottovoce simulate" in nothing.stderr


def test_help_schema_graph_and_check(config: Path) -> None:
    assert re.fullmatch(r"sottovoce \d+\.\d+\S*\n", sottovoce("--version").stdout)
    begun = time.monotonic()
    assert "simulate" in sottovoce("--help").stdout
    assert time.monotonic() - begun < 5
    assert "privacy" in json.loads(sottovoce("config", "schema").stdout)["properties"]
    assert "training" in sottovoce("graph").stdout
    assert sottovoce("graph", "--graphviz").stdout.startswith("digraph")
    assert "epsilon 3" in sottovoce("config", "check", config).stdout
    assert yaml.safe_load(sottovoce("config", "check", config, "--show").stdout)["evaluation"]["bins"] == 10


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--set", "privacy.epsilom=1"], 2, "error[config-unknown-key]  stay.yaml, privacy.epsilom: no such setting."),
        (["--set", "privacy.epsilon=0"], 2, "error[config]  stay.yaml, privacy.epsilon"),
        (["--set", "simulation.dataset=none.csv"], 3, "error[source-missing]  simulation.dataset"),
        (["--set", "simulation.partition_by=planet"], 2, "has no column planet"),
        (["--set", "simulation=null"], 2, "no section `simulation`"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_bad_input_is_told_before_anything_starts(
    place: Path, config: Path, arguments: list[str], code: int, told: str
) -> None:
    begun = time.monotonic()
    done = sottovoce("simulate", config, "--workspace", place / "bad", *arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 20


def test_errors_speak_json_too(place: Path, config: Path) -> None:
    done = sottovoce("simulate", config, "--workspace", place / "bad", "--json", "--set", "privacy.epsilon=0")
    assert json.loads(done.stdout)["code"] == "config"


def test_an_unreachable_ray_and_too_few_clients(place: Path, config: Path) -> None:
    done = sottovoce("simulate", config, "--workspace", place / "ray", RAY_ADDRESS="127.0.0.1:1")
    assert (done.returncode, "error[engine-unavailable]" in done.stderr) == (6, True)
    done = sottovoce("simulate", config, "--workspace", place / "few", "--set", "data.min_rows=100000")
    assert done.returncode == 5
    assert "error[cohort-too-small]  query.ingest: 0 of 6 clients answered, at least 4 must." in done.stderr
    assert "rows are declared, at least 100,000 are needed" in done.stderr


def test_a_dirty_ray_does_not_matter(place: Path, config: Path, finished: object) -> None:
    """A cluster of yesterday that left its address behind is not joined."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # Ray's socket paths must be short
        Path(folder, "ray").mkdir()
        Path(folder, "ray", "ray_current_cluster").write_text("127.0.0.1:1")
        done = sottovoce("simulate", config, "--workspace", place / "w", RAY_TMPDIR=folder)
    assert done.returncode == 0, done.stderr


def start(place: Path, config: Path) -> "subprocess.Popen[str]":
    command = [*SOTTOVOCE, "simulate", str(config), "--workspace", str(place)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_kill_9_in_mid_training_loses_at_most_the_round_in_progress(place: Path, config: Path) -> None:
    """And a second run at once in the same workspace is refused."""
    folder = place / "killed"
    before = ray_processes()
    with start(folder, config) as process:
        assert process.stdout
        for line in process.stdout:
            if "enrolment ..." in line:
                busy = sottovoce("simulate", config, "--workspace", folder)
                assert (busy.returncode, "error[workspace-busy]" in busy.stderr) == (8, True)
            if "round 2/4" in line:
                break
        process.kill()
    deadline = time.monotonic() + 120  # a process that was just starting notices late
    while working() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    left = {pid: psutil.Process(pid).cmdline() for pid in working() - before if psutil.pid_exists(pid)}
    assert not left, "Ray ends with the run"

    listed = sottovoce("runs", "list", "--workspace", folder, "--json").stdout
    run = json.loads(listed.splitlines()[0])["id"]
    resume = ("simulate", "--resume", run, "--workspace", folder)
    assert "no other" in sottovoce(*resume, "--set", "training.rounds=5").stderr
    assert sottovoce("simulate", "--resume", "nope", "--workspace", folder).returncode == 7
    done = sottovoce(*resume)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1/4" not in done.stdout
    assert "round 2/4" not in done.stdout
    assert "round 4/4" in done.stdout
    for home in (folder / "clients").glob("*/"):
        rounds = [row.id for row in Home(home).ledger.rows() if row.kind == "reserve" and "/train/" in row.id]
        assert len(rounds) == len(set(rounds)) <= 4
    states = [
        json.loads(line)["state"]
        for line in sottovoce("runs", "list", "--workspace", folder, "--json").stdout.splitlines()
    ]
    assert states == ["COMPLETE", "FAILED"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [300, 1300])
def test_a_full_disk_is_named_and_nothing_is_lost(place: Path, config: Path, kilobytes: int) -> None:
    folder = place / f"disk-{kilobytes}"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        done = sottovoce("simulate", config, "--workspace", folder)
        assert done.returncode in (5, 7), done.stdout + done.stderr
        assert "no space is left on the disk" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        for home in (folder / "clients").glob("*/"):
            if (home / "policy.yaml").exists() and (home / "ledgers").exists():
                Home(home).ledger.rows()
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
        again = sottovoce("simulate", config, "--workspace", folder)
        assert again.returncode == 0, again.stdout + again.stderr
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_exit_codes_are_documented() -> None:
    import sottovoce as front
    from privacy import errors

    documented = front.__doc__ or ""
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes == set(range(1, 10))
    assert all(f"{code} " in documented for code in codes)
    assert settings(Path("x"))
