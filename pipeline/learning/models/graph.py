"""A portable graph (ONNX) that scores without the class it was made by, and without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.learning.models.net import Weights


class Graph:
    """Of float32 features [rows, width]."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError when it is none."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas are what is parallel
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common root
            raise ValueError(f"not a graph that can be run: {type(error).__name__}") from None
        (self._input,) = [value.name for value in self._session.get_inputs()]

    def outputs(self, features: Weights) -> Weights:
        """float32 [rows, outputs]."""
        (made,) = self._session.run(None, {self._input: np.ascontiguousarray(features)})
        return np.asarray(made, dtype=np.float32)
