"""What callers said, in four towns: embedded words, and every caller protected with all calls."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import sottovoce

SAID = {
    "fire": "smoke flames burning house kitchen",
    "health": "pain breath chest fell blood",
    "noise": "music loud party",
}
CONTRACT = {
    "task": {"kind": "classes", "column": "about", "classes": list(SAID)},
    "columns": {"call": {"kind": "tokens", "length": 12, "buckets": 512, "example": "my kitchen is burning"}},
}


def table() -> pd.DataFrame:
    """Made up: 1,000 callers, three calls each."""
    draw = np.random.default_rng(0)
    about = draw.choice(list(SAID), 3000)
    calls = [" ".join(["there", "is", *draw.choice(SAID[topic].split(), 4)]) for topic in about]
    return pd.DataFrame({"caller": np.arange(3000) % 1000, "about": about, "call": calls})


def main(workspace: str = "sottovoce-workspace") -> None:
    run = sottovoce.simulate(
        table(),
        CONTRACT,
        workspace=workspace,
        name="calls",
        model={"kind": "text", "width": 8},
        privacy={"unit": "subject", "epsilon": 8.0, "delta": 1e-4},
        training={"rounds": 6, "local_epochs": 4, "expected_batch": 100, "learning_rate": 1.0},
        validation={"epsilon_share": 0.0},
        federation={"min_cohort": 4},
        simulation={"clients": 4, "key": ["caller"]},
    )
    print(run)
    print(run.model.predict(pd.DataFrame({"call": ["my kitchen is burning", "a loud party"]})))


if __name__ == "__main__":
    main(*sys.argv[1:])
