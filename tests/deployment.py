"""A federation of real processes on loopback, driven by the commands its people use."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from safetensors.numpy import load_file

from clients.execution import ExecutionState, GlobalModel
from clients.home import Home
from pipeline.host.services import free_port
from pipeline.language.card import ClientCard
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.layered import Layered
from pipeline.learning.models.mlp import Mlp
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace
from tests.machines import Machine
from tests.support import change, settings, table

SOTTOVOCE = str(Path(sys.executable).parent / "sottovoce")
GROUPS = {"east": ["east", "north"], "south": ["south", "west"], "centre": ["centre", "harbour"]}


@dataclass
class Deployment:
    """One coordinator and its clients, each in a process of its own. places: machines other than this, by name."""

    root: Path
    port: int
    link_port: int
    min_cohort: int = 3
    host: str = "localhost"
    places: dict[str, Machine] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    followers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.root / "server"

    def command(self, *arguments: object, code: int = 0) -> str:
        """Run one command of `sottovoce` to its end."""
        done = subprocess.run(
            [*self._place("server"), SOTTOVOCE, *map(str, arguments)],
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout + done.stderr

    def _place(self, name: str) -> tuple[str, ...]:
        return self.places[name].inside if name in self.places else ()

    def start(self, name: str, *arguments: object) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [*self._place(name), SOTTOVOCE, *map(str, arguments)],
                cwd=self.root,
                env=environment(),
                stdout=out,
                stderr=out,
            )

    def init(self, name: str, source: Path, authority: Path | None = None, port: int | None = None) -> None:
        self.command(
            *("client", "init", name, "--name", name, "--source", source, "--lifetime-epsilon", 200),
            *("--min-cohort", self.min_cohort, "--min-rows", 50, "--forbid", "shoe_size", "--colluders", 0),
            *("--coordinator", f"{self.host}:{port or self.port}", "--ca", authority or self.home / "ca.crt"),
        )

    def admit(self, name: str) -> None:
        card = self.root / name / "card.json"
        fingerprint = ClientCard.read(card).fingerprint
        self.command("server", "roster", "add", card, "--home", self.home, "--fingerprint", fingerprint)

    def introduce(self) -> None:
        """Every owner compares the fingerprints of all others."""
        cards = {name: ClientCard.read(self.root / name / "card.json") for name in GROUPS}
        for name in GROUPS:
            known = {other: card.fingerprint for other, card in cards.items() if other != name}
            first, *rest = known
            self.command("client", "roster", "pin", self.root / first / "card.json", known[first], "--home", name)
            Home(self.root / name).known_clients.pin({other: known[other] for other in (name, *rest) if other in known})

    def supernode_says(self, name: str, text: str, seconds: float = 60) -> None:
        log = self.root / name / "logs" / "supernode.log"
        wait_for(lambda: log.exists() and text in log.read_text(errors="replace"), seconds, f"{name} to say {text}")

    def logs(self) -> str:
        found = [*self.root.glob("*.out"), *self.root.glob("*/logs/*.log"), *self.root.glob("*/client.log")]
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(found))

    def config(self, seed: int, **changes: Any) -> Path:
        """A configuration that no run has had: `a__b=c` changes one setting."""
        tree = settings(Path("nowhere"), training__rounds=2, training__seed=seed)
        del tree["simulation"]
        cohort = {"min_cohort": self.min_cohort, "expected_clients": len(GROUPS), "timeout": 120.0}
        tree = change({**tree, "federation": cohort}, changes)
        tree["data"]["min_rows"] = 2 + seed  # so that no stage was done before
        path = self.root / f"config-{seed}.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        return path

    def run(self, *arguments: object) -> "Run":
        """`sottovoce run`, in the background."""
        out = self.root / f"run-{time.monotonic_ns()}.said"
        with out.open("wb") as file:
            command = [*self._place("server"), SOTTOVOCE, "run", *map(str, arguments), "--home", str(self.home)]
            follower = subprocess.Popen(command, cwd=self.root, env=environment(), stdout=file, stderr=file)
        self.followers.append(follower)
        return Run(follower, out, self)

    def kill(self, name: str) -> None:
        """kill -9 of all its processes at once."""
        process = self.processes[name]
        for victim in [*family(process), psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):  # it ends at this moment
                victim.kill()
        process.wait(20)

    def end(self, name: str) -> None:
        """Stop it as Ctrl-C does."""
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(60)

    def begin(self, name: str) -> None:
        """Start a client, or the server."""
        if name != "server":
            self.start(name, "client", "start", name)
            return
        out = self.root / "server.out"
        before = out.stat().st_size if out.exists() else 0
        self.start(name, "server", "start", self.home)
        wait_for(lambda: b"is open at" in out.read_bytes()[before:], 90, f"the coordinator to open\n{self.logs()}")

    def charges(self, name: str, execution: str = "") -> list[str]:
        """What was reserved in a client's ledger, in order: `EXECUTION/train/1`."""
        rows = Home(self.root / name).ledger.rows()
        return [row.id for row in rows if row.kind == "reserve" and row.id.startswith(execution)]

    def final_model(self) -> dict[int, list[str]]:
        """Check that the newest version is, bit for bit, what each client that revealed it has made of the sums by
        itself, up to the last one. Who was in the sum of each round."""
        newest = self._newest_version()
        config = Mlp.model_validate_json((newest / "model.json").read_bytes())
        spec = FeatureSpec.model_validate_json((newest / "features.json").read_bytes())
        net = config.net(spec.shape, spec.task.outputs, 0)
        assert isinstance(net, Layered)
        weights = net.from_tensors(load_file(newest / "weights.safetensors"))
        lineage = json.loads((newest / "lineage.json").read_bytes())
        rounds = {int(number): names for number, names in lineage["rounds"].items()}
        made: dict[str, dict[str, GlobalModel]] = {}  # by execution and client
        for name in GROUPS:
            for execution in {charge.partition("/")[0] for charge in self.charges(name) if "/train/" in charge}:
                state = ExecutionState(Home(self.root / name), execution)
                if state.result() is not None and (model := state.model()) is not None:
                    made.setdefault(execution, {})[name] = model
        ours = [of for of in made.values() if any(np.array_equal(model.weights, weights) for model in of.values())]
        assert len(ours) == 1, f"{len(ours)} executions at the clients have made this version"
        assert len(ours[0]) >= self.min_cohort
        for name, model in ours[0].items():
            assert np.array_equal(model.weights, weights), f"{name} made another model"
            assert model.applied == max(number for number, names in rounds.items() if names)
        return rounds

    def _newest_version(self) -> Path:
        """Its folder, told by another process: MLflow keeps the registry's file open, and a test may replace it."""
        ask = "import sys; from tests.deployment import newest_version; newest_version(*sys.argv[1:])"
        command = [sys.executable, "-c", ask, self.home]
        return Path(subprocess.check_output(command, cwd=Path(__file__).parents[1], text=True))

    def stop(self) -> None:
        for follower in self.followers:
            if follower.poll() is None:
                follower.terminate()
                follower.wait(20)
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(60)


@dataclass
class Run:
    """A `sottovoce run` in the background."""

    process: subprocess.Popen[bytes]
    out: Path
    deployment: Deployment

    @property
    def id(self) -> str:
        """Of the run that was submitted; those that go on with it have others."""
        self.says("submitted")
        return self.said.split()[1]

    @property
    def said(self) -> str:
        return self.out.read_text()

    def says(self, text: str, seconds: float = 120) -> None:
        """Wait until it has said `text`."""

        def heard() -> bool:
            assert text in self.said or self.process.poll() is None, f"{self.said}\n{self.deployment.logs()}"
            return text in self.said

        wait_for(heard, seconds, f"{text!r} in\n{self.said}", pause=0.02)

    def ends(self, code: int = 0, seconds: float = 300) -> str:
        self.process.wait(seconds)
        assert self.process.returncode == code, f"{self.said}\n{self.deployment.logs()}"
        return self.said


def newest_version(home: str) -> None:
    """Print the folder of the newest version in a coordinator's registry, whose files are what was registered."""
    workspace = Workspace(Path(home) / "workspace")
    newest = Registry(workspace.registry_url, workspace.models).versions("stay")[0]
    for file in newest.digests:
        newest.read(file)
    sys.stdout.write(str(newest.folder))


def environment() -> dict[str, str]:
    """Without the token of the Ray that other tests share."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}


def wait_for(true: Callable[[], bool], seconds: float, what: str, pause: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@contextmanager
def deployed(
    root: Path, min_cohort: int = 3, host: str = "localhost", places: dict[str, Machine] | None = None
) -> Iterator[Deployment]:
    """Three admitted clients, running. host: what they know the coordinator by."""
    made = Deployment(root, free_port(), free_port(), min_cohort, host, places or {})
    rows = table()
    for name, wards in GROUPS.items():
        rows[rows["ward"].isin(wards)].drop(columns="ward").to_csv(made.root / f"{name}.csv", index=False)
    ports = ("--port", made.port, "--link-port", made.link_port)
    outside = () if host == "localhost" else ("--host", "0.0.0.0", "--address", host)
    made.command("server", "init", made.home, *ports, *outside)
    try:
        made.begin("server")
        for name in GROUPS:
            made.init(name, made.root / f"{name}.csv")
            made.admit(name)
        made.introduce()
        for name in GROUPS:
            made.begin(name)
        for name in GROUPS:
            made.supernode_says(name, "SuperNode ID")
        yield made
    finally:
        children = [child for process in made.processes.values() if process.poll() is None for child in family(process)]
        made.stop()
        _, left = psutil.wait_procs(children, timeout=5)  # a signal takes its moment
        alive = [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        assert alive == [], f"who is stopped leaves nobody behind, {[child.cmdline() for child in alive]} is there"
