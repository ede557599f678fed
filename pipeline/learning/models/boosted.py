"""Trees as a document that XGBoost loads (its JSON model format, version 2): whoever has that needs nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.learning.shape import Shape
from privacy.noise import Floats

NOBODY = 2**31 - 1
"""Parent of a root."""
OBJECTIVES = {
    "logit": ("binary:logistic", 0.5, {"reg_loss_param": {"scale_pos_weight": "1"}}),
    "classes": ("multi:softprob", 0.5, {}),
    "mean": ("reg:squarederror", 0.0, {"reg_loss_param": {"scale_pos_weight": "1"}}),
    "median": ("reg:absoluteerror", 0.0, {}),
    "rate": ("count:poisson", 1.0, {"poisson_regression_param": {"max_delta_step": "0.699999988"}}),
}
"""By what the outputs mean: the objective, what it begins at, and its settings."""


def document(
    shape: Shape, meaning: str, start: Sequence[float], feature: Floats, threshold: Floats, value: Floats
) -> dict[str, Any]:
    """feature, threshold [trees, outputs, nodes]; value [trees, outputs, leaves]: nodes by level, from the left. What
    the model begins at is a first tree of one leaf."""
    trees, outputs, _ = feature.shape
    objective, base, settings = OBJECTIVES[meaning]
    classes = {"softmax_multiclass_param": {"num_class": str(outputs)}}
    made = [_tree([], [], [start[output]], shape.width) for output in range(outputs)]
    made += [
        _tree(
            feature[tree, output].tolist(), threshold[tree, output].tolist(), value[tree, output].tolist(), shape.width
        )
        for tree in range(trees)
        for output in range(outputs)
    ]
    names = [f"{part.name}.{number}".translate(_PLAIN) for part in shape.parts for number in range(part.width)]
    return {
        "version": [2, 1, 0],
        "learner": {
            "attributes": {},
            "feature_names": names,
            "feature_types": ["float"] * len(names),
            "gradient_booster": {
                "name": "gbtree",
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(made))},
                    "iteration_indptr": list(range(0, len(made) + 1, outputs)),
                    "tree_info": [number % outputs for number in range(len(made))],
                    "trees": [{**tree, "id": number} for number, tree in enumerate(made)],
                },
            },
            "learner_model_param": {
                "base_score": str(base),
                "boost_from_average": "0",
                "num_class": str(outputs if outputs > 1 else 0),
                "num_feature": str(shape.width),
                "num_target": "1",
            },
            "objective": {"name": objective, **(classes if outputs > 1 else settings)},
        },
    }


_PLAIN = str.maketrans("[]<", "()_")
"""XGBoost takes no such characters in a name."""


def _tree(feature: list[float], threshold: list[float], value: list[float], width: int) -> dict[str, Any]:
    inner, nodes = len(feature), len(feature) + len(value)
    below = [-1] * len(value)
    return {
        "base_weights": [*[0.0] * inner, *value],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": [0] * nodes,
        "left_children": [*(2 * node + 1 for node in range(inner)), *below],
        "right_children": [*(2 * node + 2 for node in range(inner)), *below],
        "loss_changes": [0.0] * nodes,
        "parents": [NOBODY, *((node - 1) // 2 for node in range(1, nodes))],
        "split_conditions": [*threshold, *value],
        "split_indices": [*(int(number) for number in feature), *[0] * len(value)],
        "split_type": [0] * nodes,
        "sum_hessian": [0.0] * nodes,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(width),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }
