"""Data at the clients: what statistics cost and what fitting to them brings, beside others in the same run.

    python -m benchmarks.data [statistics | skewed | pace]

statistics: of a hundred simulated clients, from the question to the opened sum. skewed: amounts over four magnitudes
and thousands of names, by declared bounds, by fitted quantiles, and pooled with scikit-learn's own preprocessing.
pace: snapshot, checks and features of one client's table, beside the same read and written by hand.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.engine.progress import Event, StageFinished
from pipeline.language.configfile import parse

COLUMNS: dict[str, Any] = {
    "amount": {"kind": "numeric", "low": 0, "high": 1e6},
    "delay": {"kind": "numeric", "low": 0, "high": 1e4},
    "age": {"kind": "numeric", "low": 18, "high": 95},
    "shop": {"kind": "hashed", "buckets": 256},
}
CONTRACT: dict[str, Any] = {
    "task": {"kind": "binary", "column": "fraud", "positive": ["yes"], "negative": ["no"]},
    "columns": COLUMNS,
}


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Amounts and delays over magnitudes, shops by a power law; fraud follows from both logarithms, age and shop."""
    draw = np.random.default_rng(seed)
    amount, delay = draw.lognormal(6, 1.5, rows).clip(0, 1e6), draw.lognormal(3, 1.5, rows).clip(0, 1e4)
    age, shop = draw.integers(18, 95, rows), draw.zipf(1.3, rows).clip(max=5000)
    risk = draw.normal(0, 1, 5001)
    logit = 0.9 * (np.log(amount + 1) - 6) - 0.7 * (np.log(delay + 1) - 3) + 0.01 * (age - 50) + risk[shop] - 0.5
    fraud = draw.random(rows) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "amount": amount.round(2),
            "delay": delay.round(1),
            "age": age,
            "shop": [f"shop {number}" for number in shop],
            "fraud": np.where(fraud, "yes", "no"),
        }
    )


def _config(rows: pd.DataFrame, folder: Path, clients: int, **changes: Any) -> Any:
    from pipeline.language.config import Config

    path = folder / "table.parquet"
    rows.to_parquet(path)
    tree = {
        "name": "fraud",
        "data": {**CONTRACT, "min_rows": 20},
        "privacy": {"unit": "record", "epsilon": 8.0},
        "statistics": {"epsilon_share": 0.3},
        "training": {"rounds": 10, "local_epochs": 2, "expected_batch": 256, "learning_rate": 0.5},
        "simulation": {"dataset": str(path), "clients": clients, "lifetime_epsilon": float("inf")},
        **changes,
    }
    return parse(Config, tree, "benchmark")


def statistics() -> None:
    """Start-up is not part of it: workers are up once they have checked the data."""
    from pipeline.engine.cluster import ray_engine
    from pipeline.host.environment import quiet_environment
    from pipeline.lifecycle import Part
    from pipeline.store.workspace import Workspace
    from simulations.simulate import simulate

    quiet_environment()
    took: dict[str, float] = {}

    def watch(event: Event) -> None:
        if isinstance(event, StageFinished):
            took[event.stage] = event.seconds

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _config(table(20_000), folder, 100)
        space = Workspace(folder / "w", config.storage)
        with space.locked(), ray_engine(space.scratch):
            simulate(config, space, watch, Part(until="statistics"))
    print("## Statistics of 100 simulated clients, 4 columns")
    print(f"  {took['statistics']:.1f} s (bound 5 s); the checks before them {took['validation']:.1f} s")


def skewed() -> None:
    """ROC-AUC as each run says it, and of the same rows pooled."""
    import sottovoce

    rows = table(40_000)
    print(
        f"## Skewed amounts, thousands of names: 40,000 rows, 5 clients; pooled with scikit-learn {_pooled(rows):.3f}"
    )
    for scale in ("linear", "quantile"):
        columns = {
            name: {**column, "scale": scale} if name in ("amount", "delay") else column
            for name, column in COLUMNS.items()
        }
        for epsilon in (None, 8.0, 3.0):
            with tempfile.TemporaryDirectory() as folder:
                run = sottovoce.simulate(
                    rows,
                    {**CONTRACT, "columns": columns},
                    workspace=folder,
                    name="fraud",
                    model={"hidden": [32]},
                    privacy="none" if epsilon is None else {"unit": "record", "epsilon": epsilon},
                    statistics={"epsilon_share": 0.3 if scale == "quantile" else 0.0},
                    training={"rounds": 15, "local_epochs": 2, "expected_batch": 256, "learning_rate": 0.5},
                    simulation={"clients": 5, "lifetime_epsilon": float("inf")},
                )
            told = f"{run.metrics['roc_auc']:.3f} +- {run.errors['roc_auc']:.3f}"
            print(f"  {scale:8} epsilon {epsilon or 'infinite'}: ROC-AUC {told}", flush=True)


def _pooled(rows: pd.DataFrame) -> float:
    """The same features and size of network, without a federation and without privacy."""
    from sklearn.compose import make_column_transformer
    from sklearn.metrics import roc_auc_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

    order = np.random.default_rng(1).permutation(len(rows))
    training, held_out = rows.iloc[order[: int(0.8 * len(rows))]], rows.iloc[order[int(0.8 * len(rows)) :]]
    model = make_pipeline(
        make_column_transformer(
            (QuantileTransformer(), ["amount", "delay", "age"]),
            (OneHotEncoder(max_categories=257, handle_unknown="infrequent_if_exist"), ["shop"]),
        ),
        MLPClassifier((32,), early_stopping=True, random_state=0),
    )
    model.fit(training.drop(columns="fraud"), training["fraud"] == "yes")
    chances = model.predict_proba(held_out.drop(columns="fraud"))[:, 1]
    return float(roc_auc_score(held_out["fraud"] == "yes", chances))


def pace() -> None:
    """CPU of one client, without privacy; by hand: the same file read and its features made with pandas and numpy."""
    from clients.home import Home
    from clients.ingestion import ingest
    from clients.preprocessing import preprocess
    from clients.validation import validate
    from pipeline.language.lines import Lines
    from pipeline.language.protocol import IngestRequest, PreprocessRequest, ValidateRequest
    from pipeline.learning.features import FeatureSpec
    from simulations.homes import prepare_homes

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wide = pd.concat([table(100_000, seed).add_suffix(f"_{seed}") for seed in range(8)], axis=1)
        wide = wide.rename(columns={"fraud_0": "fraud"}).drop(columns=[f"fraud_{seed}" for seed in range(1, 8)])
        columns = {f"{name}_{seed}": column for seed in range(8) for name, column in COLUMNS.items()}
        config = _config(wide, folder, 2, data={**CONTRACT, "columns": columns}, privacy="none")
        home = Home(next(iter(prepare_homes(config, folder / "clients").values())))
        begun = time.process_time()
        snapshot = ingest(home, IngestRequest(contract=config.data), {})[0].snapshot
        asked = {"contract": config.data, "checks": config.validation, "privacy": config.privacy}
        validate(home, ValidateRequest(**asked, lines=Lines.of(config).lines, snapshot=snapshot), {})
        preprocess(home, PreprocessRequest(spec=FeatureSpec.of(config.data), snapshot=snapshot, holdout=0.2), {})
        ours, begun = time.process_time() - begun, time.process_time()
        frame = pd.read_parquet(home.policy.source.files[0])
        parts = []
        for name, column in columns.items():
            if column["kind"] == "numeric":
                values = frame[name].to_numpy(dtype=float)
                parts.append(((values - column["low"]) / (column["high"] - column["low"])).clip(0, 1)[:, None])
            else:
                codes = pd.util.hash_array(frame[name].to_numpy(dtype=object)) % column["buckets"]
                hot = np.zeros((len(frame), column["buckets"]), dtype=np.float32)
                hot[np.arange(len(frame)), codes] = 1
                parts.append(hot)
        np.save(folder / "by-hand.npy", np.concatenate(parts, axis=1, dtype=np.float32))
        by_hand = time.process_time() - begun
    print(f"## Snapshot, checks and features of 50,000 rows x {len(columns)} columns at one client")
    print(f"  {ours:.1f} s CPU, by hand {by_hand:.1f} s: {ours / by_hand:.1f}x (bound 2x)")


if __name__ == "__main__":
    for part in sys.argv[1:] or ("statistics", "skewed", "pace"):
        {"statistics": statistics, "skewed": skewed, "pace": pace}[part]()
