"""Quality of the default job on held-out rows, exactly (no noisy counts): the benchmark may look at all rows.

For each seed: the job at epsilon 1, at epsilon 3, and without privacy and encryption; beside them logistic regression
on pooled data, and the mean of models that each client trains alone under the same privacy.
"""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clients.home import Home
from clients.preprocessing import Split, find_features
from pipeline.engine.cluster import ray_engine
from pipeline.engine.progress import silent
from pipeline.language.config import Config
from pipeline.language.configfile import load_config
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.net import Net, Weights
from pipeline.store.workspace import Workspace
from simulations.cli import DEFAULT_CONFIG

SEEDS = range(5)


def measure(folder: Path) -> None:
    """Print ROC-AUC of each variant: mean and range over five seeds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    from simulations.simulate import simulate

    warnings.filterwarnings("ignore", "Full backward hook", UserWarning)  # Opacus', once for each client alone
    print("## Quality of the default job: ROC-AUC on held-out rows, mean of 5 seeds [min, max]")
    variants = {
        "epsilon 1 (bound 0.815)": ["privacy.epsilon=1"],
        "epsilon 3 (bound 0.82)": ["privacy.epsilon=3"],
        "not private, not encrypted": ["privacy=none", "encryption.scheme=none"],
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    told: dict[str, list[float]] = {name: [] for name in variants}
    alone: list[float] = []
    with ray_engine():
        for seed in SEEDS:
            for name, changes in variants.items():
                settings = [*changes, f"training.seed={seed}", "simulation.lifetime_epsilon=.inf"]
                config = load_config(DEFAULT_CONFIG, settings)
                workspace = Workspace(folder / f"quality-{seed}", config.storage)
                outcome = simulate(config, workspace, silent)
                splits = _splits(workspace, config)
                held_out = _joined([held_out for _, held_out in splits])
                weights = np.frombuffer(workspace.artifacts().get(outcome.model.weights), dtype="<f4")
                found[name].append(_auc(config, weights, held_out))
                told[name].append(outcome.evaluation.metrics["roc_auc"])
                print(f"  seed {seed} {name:28} {found[name][-1]:.4f}", flush=True)
                if name.startswith("epsilon 1"):
                    alone.append(_alone(config, splits, seed))
        training = _joined([training for training, _ in splits])
    pooled = LogisticRegression(max_iter=300).fit(training.features, training.targets)
    baseline = float(roc_auc_score(held_out.targets, pooled.decision_function(held_out.features)))
    for name, values in found.items():
        print(f"  {name:28} {_summary(values)}   as the run itself reported: {_summary(told[name])}")
    means = [statistics.mean(values) for values in found.values()]
    print(f"  each client alone, epsilon 1 {_summary(alone)}")
    print(f"  logistic regression, pooled  {baseline:.4f} (not private)")
    print(f"  price of privacy and encryption at epsilon 1: {means[2] - means[0]:.4f} (bound 0.015)")


def wide_config(folder: Path) -> Path:
    """FARS in 100 even parts with a model of about one million parameters."""
    tree: dict[str, Any] = yaml.safe_load(DEFAULT_CONFIG.read_text())
    tree["simulation"] = {"dataset": "fars", "clients": 100, "lifetime_epsilon": 8.0}
    tree["model"]["hidden"] = [832, 832]
    tree["training"] |= {"rounds": 3, "local_epochs": 1, "expected_batch": 128}
    tree["data"]["min_rows"] = 100
    folder.mkdir(parents=True)
    path = folder / "wide.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def _splits(workspace: Workspace, config: Config) -> list[tuple[Split, Split]]:
    """(training, held-out) of every client, from the newest features in its home."""
    splits = []
    for root in sorted(path for path in workspace.clients.iterdir() if path.is_dir()):
        home = Home(root)
        made = root.glob("snapshots/*/features/*")
        newest = max(made, key=lambda path: path.stat().st_mtime).name
        found = find_features(home, newest, FeatureSpec.of(config.data), config.data.holdout)
        splits.append((found.split("training", config.data.holdout), found.split("held-out", config.data.holdout)))
    return splits


def _joined(splits: list[Split]) -> Split:
    features = np.concatenate([split.features for split in splits])
    return Split(features, np.concatenate([split.targets for split in splits]), splits[0].population)


def _auc(config: Config, weights: Weights, split: Split) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(split.targets, _net(config, 0).outputs(weights, split.features)[:, 0]))


def _net(config: Config, seed: int) -> Net:
    spec = FeatureSpec.of(config.data)
    return config.model.net(spec.shape, spec.task.outputs, seed)


def _alone(config: Config, splits: list[tuple[Split, Split]], seed: int) -> float:
    """Mean ROC-AUC, over all held-out rows, of models that each client trains by itself under the same privacy."""
    import torch

    from pipeline.language.lines import Lines
    from pipeline.language.spending import Spending
    from privacy.dpsgd import Optimisation, train_round
    from privacy.noise import SecureNoise
    from privacy.parameters import flat

    everywhere = _joined([held_out for _, held_out in splits])
    net, found = _net(config, seed), []
    for training, _ in splits:
        plan = Spending(config.privacy, Lines.of(config).lines, len(training.targets)).plan(
            config.training, config.model
        )
        module = net.module(net.initial())
        for number in range(config.training.rounds):
            elapsed = number / config.training.rounds
            rate = config.training.learning_rate * (1 - config.training.decay * elapsed)
            train_round(
                module,
                torch.from_numpy(training.features),
                torch.from_numpy(training.targets),
                config.data.task.losses,
                plan,
                Optimisation(rate, config.training.momentum),
                SecureNoise(),
                torch.from_numpy(net.examples(5)),
            )
        found.append(_auc(config, flat(module), everywhere))
    return statistics.mean(found)


def _summary(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]"
