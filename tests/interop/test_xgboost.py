"""XGBoost: the trees of a version are loaded by it and say the same, for every task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.interop.support import call, environment
from tests.pipeline.learning.models.invented import TASKS, forest, learned, rows, targets

pytestmark = pytest.mark.interop

READ = """
import sys, numpy as np, xgboost
booster = xgboost.Booster(); booster.load_model(sys.argv[1])
features, wanted = np.load(sys.argv[2]), np.load(sys.argv[3])
said = booster.predict(xgboost.DMatrix(features, feature_names=booster.feature_names)).reshape(wanted.shape)
print(np.abs(said - wanted).max())
"""


@pytest.mark.parametrize("task", TASKS)
def test_it_says_what_the_version_says(tmp_path: Path, task: str) -> None:
    net, spec = forest(task)
    frame = rows(1500)
    weights = learned(net, spec.task, [(spec.matrix(frame), targets(frame, task))])
    features = spec.matrix(frame.head(300))
    (tmp_path / "xgboost.json").write_text(json.dumps(net.told(spec.task, weights)["xgboost.json"]))
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "wanted.npy", spec.task.predictions(net.outputs(weights, features)))
    files = [tmp_path / name for name in ("xgboost.json", "features.npy", "wanted.npy")]
    done = call([environment("xgboost") / "python", "-c", READ, *files])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-6
