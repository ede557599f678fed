"""How a disease goes on, in five clinics: scikit-learn's diabetes table, as a notebook would do it."""

from __future__ import annotations

import sys

from sklearn.datasets import load_diabetes

import sottovoce

# Bounds are declared by people who know the field. They are not looked up in the data.
CONTRACT = {
    "task": {"kind": "regression", "column": "progression", "low": 0, "high": 350},
    "columns": {name: {"kind": "numeric", "low": -0.2, "high": 0.2} for name in ("bmi", "bp", "s1", "s3", "s5", "s6")},
    "min_rows": 20,
}


def main(workspace: str = "sottovoce-workspace") -> None:
    table = load_diabetes(as_frame=True).frame.rename(columns={"target": "progression"})
    run = sottovoce.simulate(
        table,
        CONTRACT,
        workspace=workspace,
        name="diabetes",
        model={"kind": "linear"},
        privacy="none",  # 442 patients are too few to evaluate in private: the report says NOT PRIVATE
        training={"rounds": 10, "local_epochs": 5, "expected_batch": 64, "learning_rate": 1.0, "decay": 0.9},
        simulation={"clients": 5, "lifetime_epsilon": float("inf")},
    )
    print(run)
    print(run.model.predict(table.head()))


if __name__ == "__main__":
    main(*sys.argv[1:])
