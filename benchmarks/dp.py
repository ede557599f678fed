"""Differentially private training beside plain SGD and beside Opacus as it comes: CPU-time ratios in one run.

    python -m benchmarks.dp

A step is forward, backward, clipping and the optimizer; its noise is timed by itself. Plain and private steps
alternate, so that a busy machine slows both; the ratio is the median over many pairs.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import psutil
import torch
from opacus import PrivacyEngine
from torch import nn

from privacy.dpsgd import Optimisation, train_round
from privacy.gradients import ClippedGradients
from privacy.ledger import Budget, Ledger
from privacy.noise import SecureNoise
from privacy.plan import DPPlan
from privacy.population import Population

STEP_BOUNDS = {("MLP", 64): 1.6, ("MLP", 256): 1.3, ("MLP", 1024): 1.3, ("CNN", 64): 1.7}


def mlp(outputs: int = 2) -> nn.Module:
    """100-128-128-2."""
    return nn.Sequential(nn.Linear(100, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, outputs))


def logistic(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets, reduction="none")


def cnn() -> nn.Module:
    """The 28 x 28 network of Opacus's MNIST example."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def spent(work: Callable[[], object], repeats: int = 1) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return time.process_time() - begun


Step = Callable[[], None]


def plain_step(model: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> Step:
    optimizer, mean = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        mean(model(features), labels).backward()
        optimizer.step()

    return step


def private_step(model: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> Step:
    optimizer, each = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss(reduction="none")
    gradients = ClippedGradients(model, 1.0, features[:5])

    def step() -> None:
        optimizer.zero_grad()
        gradients.clipped_sum(features, labels, each)
        optimizer.step()

    return step


def steps() -> None:
    print("## One step against plain autograd SGD (noise apart)")
    for (name, batch), bound in STEP_BOUNDS.items():
        make, width, classes = (mlp, 100, 2) if name == "MLP" else (cnn, 784, 10)
        features, labels = torch.randn(batch, width), torch.randint(0, classes, (batch,))
        plain, private = plain_step(make(), features, labels), private_step(make(), features, labels)
        repeats = max(2, 4096 // batch // (8 if name == "CNN" else 1))
        pairs = [(spent(plain, repeats), spent(private, repeats)) for _ in range(60)]
        ratio = statistics.median(private / plain for plain, private in pairs[5:])
        least = min(plain for plain, _ in pairs) / repeats
        print(f"  {name} batch {batch:4}: {ratio:.2f}x (bound {bound})   plain {least * 1e6:.0f} us")
    count = sum(p.numel() for p in mlp().parameters())
    noise = min(spent(lambda: SecureNoise().normal(count)) for _ in range(20))
    print(f"  secure noise for {count:,} parameters: {noise * 1e6:.0f} us a step")


def whole_client(rows: int = 3000, batch: int = 64, rounds: int = 10) -> None:
    """Ten rounds of one client at epsilon 8: plan, sampling, gradients, noise, ledger; and Opacus as it comes."""
    features, labels = torch.randn(rows, 100), (torch.rand(rows) > 0.5).float()
    optimisation = Optimisation(0.1, 0.9)

    def ours() -> None:
        model = mlp(outputs=1)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / "ledger.jsonl", Budget(100.0, 1e-5))
            ledger.create()
            plan = DPPlan.record_level(
                epsilon=8.0, delta=1e-5, examples=rows, expected_batch=batch, epochs=1, rounds=rounds, clipping_norm=1.0
            )
            for number in range(rounds):
                ledger.reserve(f"benchmark/train/{number}", [plan.round()], Population(0.0, 1.0, "benchmark"))
                train_round(model, features, labels, logistic, plan, optimisation, SecureNoise(), features[:5])
                ledger.commit(f"benchmark/train/{number}")

    def opacus() -> None:
        engine, network = PrivacyEngine(), mlp(outputs=1)
        data = torch.utils.data.TensorDataset(features, labels)
        wrapped, optimizer, loader = engine.make_private_with_epsilon(
            module=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
            data_loader=torch.utils.data.DataLoader(data, batch_size=batch),
            target_epsilon=8.0,
            target_delta=1e-5,
            epochs=rounds,
            max_grad_norm=1.0,
        )
        loss = nn.BCEWithLogitsLoss()
        for _ in range(rounds):
            for some, truth in loader:
                optimizer.zero_grad()
                loss(wrapped(some).squeeze(1), truth).backward()
                optimizer.step()
            engine.get_epsilon(1e-5)

    theirs, mine = spent(opacus), spent(ours)
    print(f"## One client of {rows:,} rows, {rounds} rounds of batch {batch}, secure noise and accounting included")
    print(f"  ours {mine:.2f} s, Opacus hooks with its loader {theirs:.2f} s: {theirs / mine:.1f}x (bound 6x)")


def ledger_appends() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl", Budget(100.0, 1e-5))
        ledger.create()
        plan = DPPlan.record_level(
            epsilon=8.0, delta=1e-5, examples=6000, expected_batch=64, epochs=1, rounds=60, clipping_norm=1.0
        )
        begun = time.monotonic()
        for number in range(50):
            ledger.reserve(f"benchmark/train/{number}", [plan.round()], Population(0.0, 1.0, "benchmark"))
            ledger.commit(f"benchmark/train/{number}")
        print(f"## 100 ledger appends, each budget checked by PLD: {time.monotonic() - begun:.2f} s (bound 0.5 s)")


def memory() -> None:
    process, libc = psutil.Process(), ctypes.CDLL(None)
    plan = DPPlan.record_level(
        epsilon=8.0, delta=1e-5, examples=256, expected_batch=64, epochs=1, rounds=200, clipping_norm=1.0
    )
    features, labels = torch.randn(256, 100), (torch.rand(256) > 0.5).float()
    sizes = []
    for number in range(1, 201):
        train_round(
            mlp(outputs=1), features, labels, logistic, plan, Optimisation(0.1, 0.9), SecureNoise(), features[:5]
        )
        if number in (20, 200):
            gc.collect()
            libc.malloc_trim(0)
            sizes.append(process.memory_info().rss)
    print(f"## Memory: {(sizes[1] - sizes[0]) / 1e6:+.1f} MB from round 20 to round 200")


def main() -> None:
    warnings.simplefilter("ignore")  # Opacus about itself
    torch.set_num_threads(1)
    import_module("dp_accounting.pld")  # beforehand, as Opacus is: what is timed is work, not imports
    steps()
    whole_client()
    ledger_appends()
    memory()


if __name__ == "__main__":
    main()
