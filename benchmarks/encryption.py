"""The encrypted sum: CPU time and bytes a parameter, side by side with a plain numpy sum and with NVFlare's own HE.

    python -m benchmarks.encryption [--nvflare PYTHON]      (`make bench-encryption` makes the other environment)

CPU time is that of the process, the least of several repeats, all in one run. `round` is what one client and the
coordinator spend in one round: one encryption, all additions, one total, one decryption.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from privacy.group import Group, Terms
from privacy.keys import Identity
from privacy.layout import Layout
from privacy.noise import Floats
from privacy.quantise import Quantiser
from privacy.statement import Statement
from privacy.sums import Adder, Holder

Made = TypeVar("Made")
Shapes = list[tuple[int, ...]]

MLP: Shapes = [(80, 64), (64,), (64, 40), (40,), (40, 28), (28,), (28, 16), (16,), (16, 16), (16,), (16, 8), (8,)]
"""A tabular MLP of 12 tensors; the first width is chosen so that it has about 10,000 parameters."""
BOUNDS = {"encrypt": 110.0, "add": 40.0, "decrypt": 110.0, "up": 3.1, "down": 7.0}
REPEATS = 5
NVFLARE_REPEATS = 2


def resnet_like() -> Shapes:
    """61 tensors, about 1.1 million parameters: convolutions, norms and a head."""
    shapes: Shapes = [(32, 3, 3, 3), (32,), (32,)]
    width = 32
    for stage in (32, 64, 96, 128):
        for _ in range(2):
            shapes += [(stage, width, 3, 3), (stage,), (stage,), (stage, stage, 3, 3), (stage,), (stage,)]
            width = stage
    shapes += [(128, 128), (128,)] + [(128,)] * 6
    return [*shapes, (400, 128), (400,)]


@dataclass(frozen=True)
class Cost:
    """CPU seconds of each phase and bytes of each message; add is one client's, total is once a round."""

    encrypt: float
    add: float
    total: float
    decrypt: float
    up: int
    down: int
    error: float
    worst: float

    def round(self, clients: int) -> float:
        return self.encrypt + clients * self.add + self.total + self.decrypt


def timed(work: Callable[..., Made], *arguments: Any) -> tuple[float, Made]:
    begun = time.process_time()
    made = work(*arguments)
    return time.process_time() - begun, made


def sealed(holder: Holder, update: Floats, statement: Statement) -> bytes:
    return holder.seal(holder.quantised(update, statement, 1.0), statement)


def ours(parameters: int, clients: int, masks: bool) -> Cost:
    """The least of each phase over several rounds."""
    names = tuple(f"c{number}" for number in range(clients))
    identities = {name: Identity(bytes([number + 1]) * 64) for number, name in enumerate(names)}
    terms = Terms("benchmark", "train", 1, "bfv", masks, {name: one.public for name, one in identities.items()})
    group = Group.create(terms)
    updates = [np.random.default_rng(n).uniform(-1, 1, parameters) for n in range(clients)]
    holders = {name: Holder(group, identities[name], name) for name in names}
    mean = sum(updates) / clients
    phases: dict[str, list[float]] = {"encrypt": [], "add": [], "total": [], "decrypt": []}
    for number in range(1, REPEATS + 1):
        statement = Statement("benchmark", "train", number, names)
        adder = Adder("bfv", terms.layout, statement, terms.layout.coefficients(parameters))
        for name, update in zip(names, updates, strict=True):
            spent, upload = timed(sealed, holders[name], update, statement)
            phases["encrypt"].append(spent)
            phases["add"].append(timed(adder.add, upload, name, terms.roster[name])[0])
        spent, total = timed(adder.total)
        phases["total"].append(spent)
        spent, opened = timed(holders["c0"].open_values, total, statement, names, parameters, 1.0)
        phases["decrypt"].append(spent)
    error = np.asarray(opened) / clients - mean
    least = {phase: min(values) for phase, values in phases.items()}
    root = float(np.sqrt(np.mean(error**2)))
    return Cost(up=len(upload), down=len(total), error=root, worst=float(np.abs(error).max()), **least)


def plain(parameters: int) -> float:
    """CPU seconds to add one client's float32 vector, as it arrives, to a sum: the anchor of all ratios."""
    uploads = [np.full(parameters, number, dtype=np.float32).tobytes() for number in range(8)]
    rounds = max(1, 4_000_000 // parameters)

    def whole() -> None:
        for _ in range(rounds):
            total = np.zeros(parameters, dtype=np.float32)
            for upload in uploads:
                total = total + np.frombuffer(upload, dtype=np.float32)

    return min(timed(whole)[0] for _ in range(REPEATS)) / (rounds * len(uploads))


def nvflare(python: str, shapes: Shapes, clients: int) -> dict[str, float]:
    """The least of each figure over several rounds, each in a process of its own."""
    script = str(Path(__file__).with_name("nvflare_he.py"))
    runs = []
    for _ in range(NVFLARE_REPEATS):
        done = subprocess.run(
            [python, script, json.dumps(shapes), str(clients)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {name: min(run[name] for run in runs) for name in runs[0]}


def compare(title: str, shapes: Shapes, python: str | None) -> None:
    parameters = sum(map(prod, shapes))
    anchor = plain(parameters) / parameters * 1e9
    print(f"## {title}: {parameters:,} parameters in {len(shapes)} tensors; ns CPU and bytes a parameter")
    print(f"  a plain numpy float32 sum: {anchor:.2f} ns a parameter and client, 4 bytes")
    for clients in (5, 10):
        for masks in (False, True):
            cost = ours(parameters, clients, masks)
            nanoseconds = {
                name: getattr(cost, name) / parameters * 1e9 for name in ("encrypt", "add", "total", "decrypt")
            }
            told = "  ".join(
                f"{name} {value:5.1f} ({value / anchor:4.0f}x plain"
                + (f", bound {BOUNDS[name]:.0f})" if name in BOUNDS else ")")
                for name, value in nanoseconds.items()
            )
            print(f"  {clients:2} clients, masks {'on ' if masks else 'off'}  {told}")
            print(
                f"      up {cost.up / parameters:.3f} bytes (bound {BOUNDS['up']} on the large model)   "
                f"down {cost.down / parameters:.3f} (bound {BOUNDS['down']:.0f})   "
                f"round {cost.round(clients) * 1e3:.1f} ms   "
                f"error of the mean {cost.worst:.1e} at most, {cost.error:.1e} rms"
            )
            if python and masks:
                theirs = nvflare(python, shapes, clients)
                whole = theirs["seal"] + theirs["add"] + theirs["total"] + theirs["open"]
                print(
                    f"      NVFlare: round {whole * 1e3:.1f} ms: {whole / cost.round(clients):.1f}x ours   "
                    f"up {theirs['up'] / parameters:.1f} bytes: {theirs['up'] / cost.up:.0f}x   "
                    f"encrypt {theirs['seal'] / cost.encrypt:.1f}x   decrypt {theirs['open'] / cost.decrypt:.1f}x"
                )


def quantisation() -> None:
    print("## Quantisation: largest error of the mean over 200,000 values, in clip bounds")
    for cohort in (2, 5, 10, 38, 100, 155, 500, 2000):
        layout = Layout.for_cohort(cohort)
        quantiser = Quantiser(1.0, layout)
        total = np.zeros(layout.coefficients(200_000), dtype=np.uint64)
        exact = np.zeros(200_000)
        keys = [number.to_bytes(32, "big") for number in range(cohort)]
        for number, key in enumerate(keys):
            row = np.random.default_rng(number).uniform(-1, 1, 200_000)
            total += quantiser.encode(row, key)
            exact += row
        error = np.abs(quantiser.decode_sum(total, keys, 200_000) - exact).max() / cohort
        print(f"  {cohort:5} clients: {error:.1e}   {layout}")


def memory() -> None:
    """Resident memory over 1,000 rounds of a small model."""
    process, libc = psutil.Process(), ctypes.CDLL(None)
    names = ("c0", "c1")
    identities = {name: Identity(bytes([number + 1]) * 64) for number, name in enumerate(names)}
    terms = Terms("benchmark", "train", 1, "bfv", True, {name: one.public for name, one in identities.items()})
    group = Group.create(terms)
    sizes = []
    for number in range(1, 1001):
        statement = Statement("benchmark", "train", number, names)
        adder = Adder("bfv", terms.layout, statement, 20_000)
        holders = {name: Holder(group, identities[name], name) for name in names}
        for name in names:
            adder.add(holders[name].seal(np.zeros(20_000, dtype=np.uint64), statement), name, terms.roster[name])
        holders["c0"].open(adder.total(), statement, names, 20_000)
        if number in (100, 1000):
            gc.collect()
            libc.malloc_trim(0)
            sizes.append(process.memory_info().rss)
    grown = (sizes[1] - sizes[0]) / 1e6
    print(f"## Memory: {grown:+.1f} MB from round 100 to round 1,000, {process.num_fds()} open files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvflare", metavar="PYTHON", help="a Python that has nvflare[HE]")
    arguments = parser.parse_args()
    compare("Tabular MLP", MLP, arguments.nvflare)
    compare("ResNet-like", resnet_like(), arguments.nvflare)
    quantisation()
    memory()


if __name__ == "__main__":
    main()
