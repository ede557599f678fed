"""Shapes as a portable graph (ONNX): bins are looked up in tables, and what is found is added."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.learning.columns.axis import MIDDLE, Axis
from pipeline.learning.models.binned import Step
from pipeline.learning.models.bins import Bins

OPSET = 17


class _Drawn:
    """Nodes and constants so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **settings: Any) -> str:
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **settings))
        return name


def graph_of(bins: Bins, state: Step) -> bytes:
    """float32 `features` [rows, width] to float32 `outputs` [rows, outputs]."""
    from onnx import TensorProto, helper

    drawn = _Drawn()
    found = [_bin(drawn, axis, at) for _, at, axis in bins.axes]
    groups, table = bins.groups(state), state.mean.T.astype(np.float32)
    added = drawn.constant(state.start.astype(np.float32)[None])
    for number, place in enumerate(found):
        own = drawn.constant(table[bins.edges[number] : bins.edges[number + 1]])
        added = drawn.node("Add", added, drawn.node("Gather", own, place, axis=0))
    for number, pair in enumerate(bins.pairs(state), len(bins.axes)):
        parts = [
            drawn.node("Gather", drawn.constant(groups[bins.edges[one] : bins.edges[one + 1]]), found[one], axis=0)
            for one in pair
        ]
        side = drawn.constant(np.array(bins.model.cells, dtype=np.int64))
        cell = drawn.node("Add", drawn.node("Mul", parts[0], side), parts[1])
        own = drawn.constant(table[bins.edges[number] : bins.edges[number + 1]])
        added = drawn.node("Add", added, drawn.node("Gather", own, cell, axis=0))
    drawn.nodes.append(helper.make_node("Identity", [added], ["outputs"]))
    graph = helper.make_graph(
        drawn.nodes,
        "shapes",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", bins.shape.width])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["rows", bins.outputs])],
        drawn.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    return bytes(model.SerializeToString())


def _bin(drawn: _Drawn, axis: Axis, at: int) -> str:
    """The bin of each record [rows], as `Axis.of` finds it."""
    from onnx import TensorProto

    first = at + axis.at

    def feature(number: int) -> str:
        return drawn.node("Gather", "features", drawn.constant(np.array(number, dtype=np.int64)), axis=1)

    if axis.kind == "names":
        own = drawn.node("Gather", "features", drawn.constant(np.arange(first, first + axis.width)), axis=1)
        numbers = drawn.constant(np.arange(1, axis.width + 1, dtype=np.float32)[:, None])
        place = drawn.node("Squeeze", drawn.node("MatMul", own, numbers), drawn.constant(np.array([1])))
        return _whole(drawn, drawn.node("Round", place), axis.bins)
    if axis.kind == "even":
        fine = axis.bins - 1
        wide = drawn.node("Cast", feature(first), to=TensorProto.DOUBLE)
        scaled = drawn.node("Mul", wide, drawn.constant(np.array(float(fine))))
        place = _whole(drawn, drawn.node("Floor", scaled), fine)
        unknown = drawn.node("Greater", feature(first + 1), drawn.constant(np.array(0, dtype=np.float32)))
        return drawn.node("Where", unknown, drawn.constant(np.array(fine, dtype=np.int64)), place)
    return _turned(drawn, feature(first), feature(first + 1), axis.bins)


def _turned(drawn: _Drawn, sine: str, cosine: str, bins: int) -> str:
    """Of a point on a circle: by the half plane and the arc cosine, which ONNX knows where it knows no atan2."""
    two, one = (drawn.constant(np.array(value, dtype=np.float32)) for value in (2.0, 1.0))
    y, x = (drawn.node("Sub", drawn.node("Mul", part, two), one) for part in (sine, cosine))
    size = drawn.node("Sqrt", drawn.node("Add", drawn.node("Mul", x, x), drawn.node("Mul", y, y)))
    safe = drawn.node("Max", size, drawn.constant(np.array(1e-12, dtype=np.float32)))
    inside = drawn.node(
        "Clip", drawn.node("Div", x, safe), drawn.constant(np.float32(-1)), drawn.constant(np.float32(1))
    )
    half = drawn.node("Div", drawn.node("Acos", inside), drawn.constant(np.float32(2 * np.pi)))
    below = drawn.node("Less", y, drawn.constant(np.float32(0)))
    turn = drawn.node("Where", below, drawn.node("Neg", half), half)
    turns = bins - 1
    shifted = drawn.node("Add", turn, drawn.constant(np.float32(0.5 / turns)))
    within = drawn.node("Sub", shifted, drawn.node("Floor", shifted))
    part = drawn.node("Floor", drawn.node("Mul", within, drawn.constant(np.float32(turns))))
    nowhere = drawn.node("Less", size, drawn.constant(np.float32(MIDDLE)))
    return drawn.node("Where", nowhere, drawn.constant(np.array(turns, dtype=np.int64)), _whole(drawn, part, turns))


def _whole(drawn: _Drawn, place: str, bins: int) -> str:
    """As a whole number from 0 on, below `bins`."""
    from onnx import TensorProto

    whole = drawn.node("Cast", place, to=TensorProto.INT64)
    least, most = (drawn.constant(np.array(value, dtype=np.int64)) for value in (0, bins - 1))
    return drawn.node("Max", drawn.node("Min", whole, most), least)
