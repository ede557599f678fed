"""What makes a tumour suspicious, as a person can read it: scikit-learn's breast cancer table, an additive model."""

from __future__ import annotations

import sys

from sklearn.datasets import load_breast_cancer

import sottovoce

# Bounds are declared by people who know the field. They are not looked up in the data.
CONTRACT = {
    "label": {"column": "diagnosis", "positive": ["malignant"], "negative": ["benign"]},
    "columns": {
        "worst radius": {"kind": "numeric", "low": 5, "high": 40},
        "worst texture": {"kind": "numeric", "low": 10, "high": 50},
        "worst smoothness": {"kind": "numeric", "low": 0.05, "high": 0.25},
        "worst concave points": {"kind": "numeric", "low": 0, "high": 0.3},
    },
    "min_rows": 20,
}


def main(workspace: str = "sottovoce-workspace") -> None:
    data = load_breast_cancer(as_frame=True)
    table = data.frame.assign(diagnosis=data.target.map({0: "malignant", 1: "benign"}))
    run = sottovoce.simulate(
        table,
        CONTRACT,
        workspace=workspace,
        name="tumour",
        model={"kind": "additive", "rounds": 20, "pairs": 0, "monotone": {"worst radius": "rising"}},
        validation={"leakage": 0.99},  # one of these columns nearly is the diagnosis, and known before it
        privacy="none",  # 569 patients are too few to evaluate in private: the report says NOT PRIVATE
        simulation={"clients": 5, "lifetime_epsilon": float("inf")},
    )
    print(run)
    print(run.model.explain(table.head()))
    print("every effect, drawn:", run.report.page)


if __name__ == "__main__":
    main(*sys.argv[1:])
