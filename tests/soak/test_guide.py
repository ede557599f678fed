"""docs/deployment.md, followed as it stands: two machines, the commands of its two kinds of people, their answers."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from simulations.cli import DEFAULT_CONFIG
from tests.deployment import environment, wait_for
from tests.machines import Machine, needs_machines, two_machines

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"
LASTING = ("server start", "client start", "serve ")
"""Commands that stay in the foreground: each has a terminal of its own."""
READY = "is open at|by itself|answers at"
pytestmark = [pytest.mark.soak, needs_machines]


def blocks() -> Iterator[tuple[str, str]]:
    """(who, command) in the order of the guide."""
    for who, block in re.findall(r"^```sh (operator|owner)\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        for command in block.replace("\\\n", " ").splitlines():
            yield who, " ".join(command.split())


@contextmanager
def terminal(machine: Machine, folder: Path, command: str) -> Iterator[Path]:
    out = folder / f"{re.sub(r'[^a-z]+', '-', command)}.out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*machine.inside, *resolved(command)], cwd=folder, stdout=file, stderr=file, env=environment()
        )
    try:
        wait_for(lambda: bool(re.search(READY, out.read_text())), 90, f"{command} to be ready")
        yield out
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(60)
        psutil.wait_procs(family, timeout=10)


def resolved(command: str) -> list[str]:
    program, *arguments = command.split()
    return [str(Path(sys.executable).parent / program), *arguments]


def run(machine: Machine, folder: Path, command: str, answers: str = "") -> str:
    done = subprocess.run(
        [*machine.inside, *resolved(command)],
        cwd=folder,
        input=answers,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_guide_is_followed_as_it_stands(tmp_path: Path) -> None:
    home = {"operator": tmp_path / "operator", "owner": tmp_path / "owner"}
    for folder in home.values():
        folder.mkdir()
    shutil.copy(DEFAULT_CONFIG, home["operator"] / "crash.yaml")
    command = [sys.executable, "-c", f"from tests.soak.test_guide import data; data({str(tmp_path)!r})"]
    subprocess.run(command, check=True, cwd=GUIDE.parent.parent)
    fingerprints: dict[str, str] = {}
    said: dict[str, str] = {}
    begun = time.monotonic()
    with two_machines({"coordinator.example.org": 0}) as pair, ExitStack() as terminals:
        machines = dict(zip(home, pair, strict=True))
        for who, command in blocks():
            machine, folder = machines[who], home[who]
            if any(lasting in command for lasting in LASTING):
                terminals.enter_context(terminal(machine, folder, command))
                continue
            answers = "\n\n" if "client init" in command else ""
            if "roster add" in command or "roster pin" in command:
                answers = fingerprints[re.sub(r"first/card", "pacific-card", command).split()[4]] + "\n"
            said[command] = run(machine, folder, command, answers)
            if "client init" in command:
                name = command.split("--name ")[1].split()[0]
                fingerprints[f"{name}-card.json"] = re.search("fingerprint +([0-9A-F ]{39})", said[command])[1]  # type: ignore[index]
            if "server init" in command:
                shutil.copy(folder / "fed" / "ca.crt", home["owner"] / "ca.crt")  # over a way they trust
            if "client init first" in command:
                shutil.copy(folder / "first" / "card.json", home["owner"] / "pacific-card.json")
            if "client init mine" in command:
                shutil.copy(folder / "mine" / "card.json", home["operator"] / "mountain-card.json")
    assert time.monotonic() - begun < 600, "ten minutes"
    told = "\n".join(said.values())
    assert "pacific                  admitted" in told
    assert "mountain                 compared" in told
    assert "round 8/8  2/2 clients" in told
    assert "Model crash-fatality v1" in told
    assert "COMPLETE" in told
    assert "runs (process" in told
    assert "reserve" in told


def data(folder: str) -> None:
    """What a simulation leaves: the tables of two registries."""
    from pipeline.language.configfile import load_config
    from simulations.datasets import load_dataset
    from simulations.partition import partition

    simulation = load_config(DEFAULT_CONFIG).simulation
    assert simulation
    parts = dict(partition(load_dataset(simulation.dataset), simulation))
    parts["pacific"].to_parquet(Path(folder, "operator", "pacific.parquet"), index=False)
    parts["mountain"].to_parquet(Path(folder, "owner", "mountain.parquet"), index=False)
