"""What a search among settings on synthetic rows buys, and how far its ranking is that of the clients' own rows.

    python -m benchmarks.tuning [gain] [ranks]

gain: the default job at epsilon 1 with statistics (share 0.3), as it is and with a step size ten times off, each with
and without 20 trials on synthetic rows, at equal total epsilon. ranks: the same settings rehearsed on synthetic rows,
and on the pooled rows of the clients, which no federation could do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import process_tree
from pipeline.language.changing import changed
from pipeline.language.configfile import load_config
from pipeline.learning.features import FeatureSpec
from pipeline.stages.tuning import examples_of
from pipeline.stages.values import StatisticsReport
from pipeline.store.workspace import Workspace
from pipeline.tuning.rehearsal import rehearse
from pipeline.tuning.rows import public
from simulations.cli import DEFAULT_CONFIG
from simulations.homes import prepare_homes

SPACE = {
    "training.learning_rate": {"low": 0.02, "high": 2.0, "log": True},
    "privacy.clipping_norm": {"low": 0.2, "high": 5.0, "log": True},
    "model.hidden": {"choices": [[32], [64], [64, 32]]},
}
SETTINGS = 14
"""That are ranked."""


def gain(folder: Path) -> None:
    print(
        "## Tuning on synthetic rows: the default job, epsilon 1, statistics 0.3, ROC-AUC on the clients' held-out rows"
    )
    for title, rate in (("step size as it is", 0.5), ("ten times too small", 0.05), ("ten times too large", 5.0)):
        found = []
        for trials in (0, 20):
            place = folder / f"{rate}-{trials}"
            changes = ["statistics.epsilon_share=0.3", f"training.learning_rate={rate}"]
            if trials:
                changes += [f"tuning.space={json.dumps(SPACE)}", f"tuning.trials={trials}"]
            words = [word for change in changes for word in ("--set", change)]
            command = [sys.executable, "-m", "sottovoce", "simulate", "--workspace", str(place), "--json", *words]
            used = process_tree.run(command)
            events = [json.loads(line) for line in used.output.splitlines() if line.startswith("{")]
            report = events[-1]
            took = [e["seconds"] for e in events if e["event"] == "StageFinished" and e["stage"] == "tuning"]
            found.append((report["metrics"]["roc_auc"], report["errors"]["roc_auc"], report.get("tuning"), took))
        (plain, error, _, _), (tuned, tuned_error, told, took) = found
        print(f"  {title:20} {plain:.4f} +- {error:.4f}   tuned {tuned:.4f} +- {tuned_error:.4f}   {took[0]:.0f} s")
        print(f"      {told}")


def ranks(folder: Path) -> None:
    """Spearman's correlation of the scores."""
    tree: dict[str, Any] = {"tuning.space": SPACE, "statistics.epsilon_share": 0.3, "tuning.clients": 7}
    config = changed(load_config(DEFAULT_CONFIG), tree, "benchmark")
    workspace = Workspace(folder / "ranks")
    words = ["--set", "statistics.epsilon_share=0.3", "--until", "statistics", "--json"]
    process_tree.run([sys.executable, "-m", "sottovoce", "simulate", "--workspace", str(workspace.root), *words])
    metadata = workspace.metadata()
    (step,) = (one for one, _ in metadata.executions_of(metadata.runs()[0].id) if one.stage == "statistics")
    digest = metadata.output(step.id, "statistics_report")
    report = StatisticsReport.model_validate_json(workspace.artifacts().get(digest or ""), context={"installed": True})
    homes = prepare_homes(config, workspace.clients)
    sources = sorted(path for home in homes.values() for path in (home / "source").iterdir())
    import pandas as pd

    pooled = folder / "pooled.csv"
    pd.concat([pd.read_parquet(p) if p.suffix == ".parquet" else pd.read_csv(p, dtype=str) for p in sources]).to_csv(
        pooled, index=False
    )
    drawn, real = examples_of(config, report), public(pooled, FeatureSpec.of(config.data))
    draw, scores = np.random.default_rng(0), []
    for _ in range(SETTINGS):
        values = {
            "training.learning_rate": float(np.exp(draw.uniform(np.log(0.02), np.log(2.0)))),
            "privacy.clipping_norm": float(np.exp(draw.uniform(np.log(0.2), np.log(5.0)))),
            "model.hidden": [[32], [64], [64, 32]][draw.integers(3)],
        }
        trial = changed(config, values, "trial")
        scores.append([rehearse(trial, rows, lambda number, score: None).value for rows in (drawn, real)])
    first, second = np.argsort(np.argsort(np.array(scores), axis=0), axis=0).T
    best = int(np.argmax(np.array(scores)[:, 0]))
    lost = np.array(scores)[:, 1].max() - scores[best][1]
    print(
        f"## {SETTINGS} settings, synthetic rows against the clients' own: rank correlation "
        f"{np.corrcoef(first, second)[0, 1]:.2f}; the one that synthetic rows choose loses {lost:.4f} to the best"
    )


def main() -> None:
    """The command."""
    with tempfile.TemporaryDirectory() as folder:
        for part in sys.argv[1:] or ["gain", "ranks"]:
            {"gain": gain, "ranks": ranks}[part](Path(folder))


if __name__ == "__main__":
    main()
