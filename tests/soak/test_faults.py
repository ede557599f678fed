"""Every fault a federation meets, over real processes: the model that comes of it, and what was charged.

Run by `make soak`. Clients accept sums of two, so that a run can go on without the third.
"""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from clients.home import Home
from pipeline.workspace import Workspace
from tests.deployment import GROUPS, Deployment, deployed, family, wait_for
from tests.soak.postman import Postman
from tests.soak.throttle import Throttle

pytestmark = pytest.mark.soak

LONG = {"training__rounds": 4, "training__local_epochs": 150}
"""Local training of a second or two, so that there is a middle of it."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("faults"), min_cohort=2) as made:
        yield made


@pytest.fixture(autouse=True)
def everyone_is_there(deployment: Deployment) -> Iterator[None]:
    """Whoever a test has left dead is started again, and waited for until the SuperLink lets it in."""
    yield
    for name in ("server", *GROUPS):
        if deployment.processes[name].poll() is not None:
            deployment.begin(name)


def in_the_middle_of(deployment: Deployment, name: str, round: int) -> None:
    """Wait until `name` has reserved this round and not committed it."""

    def training() -> bool:
        rows = Home(deployment.root / name).ledger.rows()
        return bool(rows) and rows[-1].kind == "reserve" and rows[-1].id.endswith(f"/train/{round}")

    wait_for(training, 120, f"{name} to be in round {round}", pause=0.02)


def charged_once_for_one_model(deployment: Deployment, rounds: int) -> dict[int, list[str]]:
    """Each round is charged at most once, in order; what is registered is what the clients made. Who was in it."""
    for name in GROUPS:
        charges = deployment.charges(name)
        assert len(charges) == len(set(charges)), name
        trained = [charge for charge in charges if "/train/" in charge]
        newest = trained[-1].partition("/")[0]
        numbers = [int(charge.rpartition("/")[2]) for charge in trained if charge.startswith(newest)]
        assert numbers == sorted(numbers)
        assert numbers[-1] <= rounds
    taken = deployment.final_model()
    assert sorted(taken) == list(range(1, rounds + 1))
    return taken


def stages_done(deployment: Deployment, said: str) -> None:
    """No stage is done twice in one run, however often it was resumed; enrolment looks again each time."""
    for stage in ("ingestion", "validation", "preprocessing", "training", "evaluation", "registration", "deployment"):
        assert said.count(f"  {stage} done") == 1, said


def test_a_client_killed_before_its_reply_comes_back(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(1, training__rounds=40, training__local_epochs=150))
    in_the_middle_of(deployment, "south", 2)
    deployment.kill("south")
    deployment.begin("south")
    said = run.ends()
    assert "south excluded: it is not connected" in said
    assert "2/3 clients" in said
    assert "round 40/40  3/3 clients" in said, "it caught up from the kept aggregates"
    taken = charged_once_for_one_model(deployment, 40)
    assert any("south" not in names for names in taken.values())
    assert "south" in taken[40]


def test_a_client_killed_after_its_reply_comes_back(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(2, **LONG))
    run.says("round 2/4")
    deployment.kill("south")
    deployment.begin("south")
    run.ends()
    charged_once_for_one_model(deployment, 4)


def test_a_client_that_leaves_for_good_is_done_without(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(3, training__rounds=60, training__local_epochs=150))
    in_the_middle_of(deployment, "centre", 2)
    deployment.kill("centre")
    said = run.ends()
    assert "centre excluded" in said
    assert "round 60/60  2/2 clients" in said, "the rest has agreed on a new group key"
    assert charged_once_for_one_model(deployment, 60)[60] == ["east", "south"]
    deployment.begin("centre")
    assert "round 1/2  3/3 clients" in deployment.run(deployment.config(4)).ends(), "and it may come back another day"


def test_a_client_that_never_answers_is_left_behind_at_the_deadline_and_catches_up(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(5, federation__timeout=25.0, **LONG))
    run.says("round 1/4")
    stopped = family(deployment.processes["south"])
    for process in stopped:
        process.suspend()
    try:
        run.says("south excluded: no answer in 25 s")
    finally:
        for process in stopped:
            process.resume()
    said = run.ends()
    assert "round 4/4" in said
    charged_once_for_one_model(deployment, 4)
    assert "round 1/2  3/3 clients" in deployment.run(deployment.config(6)).ends(), "a late reply harms nothing"


def test_below_the_minimum_cohort_the_run_pauses_and_is_resumed(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(7, **LONG))
    run.says("round 1/4")
    deployment.kill("south")
    deployment.kill("centre")
    said = run.ends(code=5)
    assert "error[cohort-too-small]" in said
    assert "Nothing was applied" in said
    deployment.begin("south")
    deployment.begin("centre")
    workspace = Workspace(deployment.home / "workspace")
    metadata = workspace.metadata()
    number = metadata.runs()[0].id
    metadata.close()
    again = deployment.run("--resume", number).ends()
    assert "round 1/4" not in again
    assert "round 4/4" in again
    charged_once_for_one_model(deployment, 4)


MOMENTS = (
    *("submitted", "ingestion ...", "validation ...", "preprocessing ...", "training ...", "round 2/3"),
    *("evaluation ...", "blessing ...", "registration ...", "deployment ..."),
)


@pytest.mark.parametrize("away", [2, 75], ids=["within Flower's minute", "after it"])
@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=MOMENTS)
def test_a_coordinator_killed_at_any_stage_goes_on(deployment: Deployment, number: int, away: int) -> None:
    run = deployment.run(deployment.config(100 + number + 50 * (away > 60), training__rounds=3))
    run.says(MOMENTS[number])
    deployment.kill("server")
    time.sleep(away)
    deployment.begin("server")
    said = run.ends()
    stages_done(deployment, said)
    assert said.count("round 3/3") == 1
    charged_once_for_one_model(deployment, 3)


def test_a_coordinator_whose_flower_state_is_lost_goes_on(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(17, training__rounds=3))
    run.says("round 1/3")
    deployment.kill("server")
    (deployment.home / "nodes.json").unlink()
    deployment.begin("server")
    stages_done(deployment, run.ends())
    charged_once_for_one_model(deployment, 3)


@pytest.mark.parametrize("service", ["superlink", "executor", "gateway"])
def test_a_killed_service_of_the_coordinator_does_not_end_the_run(deployment: Deployment, service: str) -> None:
    run = deployment.run(deployment.config(200 + len(service), training__rounds=3))
    run.says("round 1/3")
    kill_service(deployment, service)
    stages_done(deployment, run.ends())
    charged_once_for_one_model(deployment, 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_services_killed_in_round_after_round_do_not_end_the_run(deployment: Deployment, seed: int) -> None:
    """At any moment of a round: messages on their way out, at work, replies on their way back."""
    moments, rounds = Random(seed), 10  # noqa: S311
    run = deployment.run(deployment.config(230 + seed, training__rounds=rounds))
    for number in range(1, rounds):
        run.says(f"round {number}/{rounds} ", 240)
        time.sleep(moments.uniform(0, 2))
        kill_service(deployment, moments.choice(["superlink", "superlink", "gateway"]))
    said = run.ends()
    stages_done(deployment, said)
    assert said.count("3/3 clients") == rounds
    charged_once_for_one_model(deployment, rounds)


def kill_service(deployment: Deployment, service: str) -> None:
    names = {"superlink": "flower-superlink", "executor": "server.executor", "gateway": "server.gateway"}

    def victims() -> list[psutil.Process]:
        return [
            process
            for process in family(deployment.processes["server"])
            if process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
            and names[service] in " ".join(process.cmdline())
        ]

    wait_for(lambda: bool(victims()), 30, f"a {service}")
    victims()[0].kill()


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A folder on a disk of its own, and what fills that disk; afterwards everything is where it was."""
    content, ballast = folder.with_name(f"{folder.name}-content"), folder / "ballast"
    shutil.copytree(folder, content)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)], check=True)

    def fill() -> None:
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    try:
        shutil.copytree(content, folder, dirs_exist_ok=True)
        yield fill
        ballast.unlink()
        shutil.rmtree(content)
        shutil.copytree(folder, content)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree(folder)
    content.rename(folder)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@needs_root
def test_a_full_disk_at_a_client_leaves_it_out(deployment: Deployment) -> None:
    deployment.end("south")
    with small_disk(deployment.root / "south") as fill:
        deployment.begin("south")
        assert "round 2/2  3/3 clients" in deployment.run(deployment.config(9)).ends()
        before = deployment.charges("south")
        fill()
        said = deployment.run(deployment.config(18)).ends()
        assert "south excluded: no space is left on the disk" in said
        assert "round 2/2  2/2 clients" in said
        assert deployment.charges("south") == before
        deployment.end("south")
    deployment.begin("south")
    assert "round 2/2  3/3 clients" in deployment.run(deployment.config(10)).ends()
    charged_once_for_one_model(deployment, 2)


@needs_root
def test_a_full_disk_at_the_coordinator_ends_the_run_which_is_resumed(deployment: Deployment) -> None:
    deployment.end("server")
    (deployment.home / "workspace").mkdir(exist_ok=True)
    with small_disk(deployment.home / "workspace") as fill:
        deployment.begin("server")
        run = deployment.run(deployment.config(11, training__rounds=5))
        run.says("round 1/5")
        fill()
        assert "no space is left on the disk" in run.ends(code=7)
        (deployment.home / "workspace" / "ballast").unlink()
        said = deployment.run(deployment.config(11, training__rounds=5)).ends()
        assert "round 1/5" not in said
        assert "round 5/5  3/3 clients" in said
        (deployment.home / "workspace" / "ballast").touch()
        deployment.end("server")
    deployment.begin("server")
    charged_once_for_one_model(deployment, 5)


@contextmanager
def through(deployment: Deployment, name: str, port: int) -> Iterator[None]:
    """A client that reaches the coordinator by another port."""
    connection = deployment.root / name / "connection.yaml"
    whole = connection.read_text()
    deployment.end(name)
    connection.write_text(f"coordinator: localhost:{port}\n")
    deployment.begin(name)
    try:
        yield
    finally:
        deployment.end(name)
        connection.write_text(whole)
        deployment.begin(name)


def test_a_slow_link_costs_time_and_nothing_else(deployment: Deployment) -> None:
    """By a relay, as where the kernel cannot limit a link; tests/soak/test_machines.py has it limited by the kernel."""
    with Throttle(deployment.port, bytes_per_second=100_000, delay=0.1) as throttle:
        with through(deployment, "south", throttle.port):
            said = deployment.run(deployment.config(12, model__hidden=[200])).ends(seconds=400)
        assert "round 2/2  3/3 clients" in said
        assert throttle.passed > 100_000
    charged_once_for_one_model(deployment, 2)


def test_calls_that_come_twice_late_and_in_another_order(deployment: Deployment) -> None:
    with (
        Postman(deployment.port, deployment.home / "ca", deployment.root, latest=1.0) as postman,
        through(deployment, "south", postman.port),
    ):
        said = deployment.run(deployment.config(22, training__rounds=6)).ends(seconds=400)
    assert "round 6/6  3/3 clients" in said, postman.counts
    assert postman.counts["a message once more"] >= 2
    assert postman.counts["push-object twice"] >= 6
    taken = charged_once_for_one_model(deployment, 6)
    assert all(names == sorted(GROUPS) for names in taken.values()), (taken, postman.counts)


def test_a_message_lost_on_its_way_is_sent_once_more(deployment: Deployment) -> None:
    """The SuperLink has handed it out, the client has never seen it."""
    changes = {"training__rounds": 4, "federation__timeout": 40.0}
    with (
        Postman(deployment.port, deployment.home / "ca", deployment.root, latest=0.1) as postman,
        through(deployment, "south", postman.port),
    ):
        run = deployment.run(deployment.config(24, **changes))
        run.says("round 1/4")
        postman.lose = 1
        said = run.ends(seconds=400)
    assert postman.counts["a message lost"] == 1
    assert "round 4/4  3/3 clients" in said
    taken = charged_once_for_one_model(deployment, 4)
    assert all(names == sorted(GROUPS) for names in taken.values()), taken


needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="a clock of its own is compiled")


@contextmanager
def clock_of(deployment: Deployment, name: str) -> Iterator[Callable[[float], None]]:
    """Start it anew with a wall clock that can be set, in seconds from the true one; afterwards with the true one."""
    library, setting = deployment.root / "clock.so", deployment.root / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)

    def set_clock(seconds: float) -> None:
        with setting.open("r+b" if setting.exists() else "wb") as file:  # in place: the processes have it mapped
            file.write(struct.pack("d", seconds))

    set_clock(0)
    deployment.end(name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("CLOCK_FILE", str(setting))
        deployment.begin(name)
    try:
        yield set_clock
    finally:
        deployment.end(name)
        deployment.begin(name)


@needs_cc
def test_the_clock_of_a_client_jumps(deployment: Deployment) -> None:
    """It is let go while it cannot prove who it is, and catches up once its clock is right."""
    with clock_of(deployment, "south") as set_clock:
        run = deployment.run(deployment.config(13, training__rounds=60, training__local_epochs=150))
        run.says("round 1/60")
        set_clock(5 * 3600)
        run.says("south excluded", 180)
        wait_for(lambda: "clock" in deployment.command("client", "status", "south"), 90, "it to name its clock")
        set_clock(0)
        said = run.ends(seconds=600)
        assert "2/2 clients" in said or "2/3 clients" in said
        assert "round 60/60  3/3 clients" in said
        charged_once_for_one_model(deployment, 60)


@needs_cc
@pytest.mark.parametrize(("seed", "jump"), [(19, 5 * 3600), (20, -5 * 3600), (21, 120)])
def test_the_clock_of_the_coordinator_jumps(deployment: Deployment, seed: int, jump: float) -> None:
    with clock_of(deployment, "server") as set_clock:
        run = deployment.run(deployment.config(seed, **LONG))
        run.says("round 1/4")
        set_clock(jump)
        time.sleep(15)
        set_clock(0)
        stages_done(deployment, run.ends(seconds=600))
        charged_once_for_one_model(deployment, 4)


def test_updates_of_fifty_megabytes(deployment: Deployment) -> None:
    changes = {"model__hidden": [5000, 4000], "training__rounds": 1, "training__local_epochs": 1}
    said = deployment.run(
        deployment.config(15, training__expected_batch=256, federation__timeout=500.0, **changes)
    ).ends(seconds=900)
    line = next(line for line in said.splitlines() if "round 1/1" in line)
    assert "3/3 clients" in line
    assert float(line.partition("up ")[2].split()[0]) > 3 * 50, line


ROLES = ("clients.supernode", "clients.executor", "flower-superlink", "server.executor", "server.gateway")


def held(deployment: Deployment) -> dict[str, tuple[int, int, int]]:
    """Memory in bytes and descriptors of every lasting process, and files of its home beside the run's checkpoints."""
    found = {}
    for name, process in deployment.processes.items():
        home = deployment.home if name == "server" else deployment.root / name
        files = sum(path.is_file() and "artifacts" not in path.parts for path in home.rglob("*"))
        for child in psutil.Process(process.pid).children():
            role = next(role for role in ROLES if role in " ".join(child.cmdline()))
            found[f"{name}: {role}"] = (child.memory_info().rss, child.num_fds(), files)
            if role == "server.executor":
                (driver,) = (fork for fork in child.children() if fork.cmdline() == child.cmdline())
                found["driver"] = (driver.memory_info().rss, driver.num_fds(), files)
    return found


def test_two_hundred_rounds_leave_nothing_behind_on_either_side(deployment: Deployment) -> None:
    run = deployment.run(deployment.config(16, training__rounds=200, training__local_epochs=1))
    run.says("round 50/200", 400)
    early = held(deployment)
    run.says("round 199/200", 900)
    late = held(deployment)
    run.ends(seconds=200)
    assert early.keys() == late.keys()
    for process, (memory, descriptors, files) in late.items():
        before = early[process]
        assert memory - before[0] < 30e6, (process, before[0], memory)
        assert descriptors - before[1] <= 4, (process, before[1], descriptors)
        assert files - before[2] <= 2, (process, before[2], files)
    charged_once_for_one_model(deployment, 200)
