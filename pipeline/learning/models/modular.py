"""A model that is whatever PyTorch module its class makes.

Its version holds a portable graph (ONNX), so that an endpoint answers without the class and without PyTorch.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from pipeline.learning.models.net import GRAPH, WEIGHTS, Net, Weights
from pipeline.learning.shape import Shape
from privacy.errors import KindUnfit
from privacy.parameters import flat, load_flat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.learning.models.model import Model

CLOSE = 1e-5
"""How far a graph may be off its module, relative to the larger of 1 and what the module says."""
_AT_ONCE = 4096
"""Rows that are scored together."""


@dataclass(frozen=True)
class Modular(Net):
    """seed: under which the module is made, here and at every client alike."""

    model: Model
    shape: Shape
    width: int
    seed: int

    checked: ClassVar[bool] = False

    @cached_property
    def _made(self) -> torch.nn.Module:
        """Built once; its trained parameters are whatever was loaded last."""
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                module: Any = self.model.module(self.shape, self.width)
        except Exception as error:  # a module of one's own may fail by anything
            raise KindUnfit(
                f"the module of {self.model.kind} cannot be made: {type(error).__name__}",
                remedy="Call its `module` with the shape of the columns; see docs/models.md.",
                travels=True,
            ) from error
        if not isinstance(module, torch.nn.Module):
            raise KindUnfit(f"what {self.model.kind} makes is no torch.nn.Module", travels=True)
        return module

    @cached_property
    def _first(self) -> Weights:
        return flat(self._made)

    @property
    def parameters(self) -> int:
        return self._counted

    @cached_property
    def _counted(self) -> int:
        """Counted without making them, where that can be: whoever asks may be about to refuse them."""
        try:
            with torch.device("meta"):
                return _trained(self.model.module(self.shape, self.width))
        except Exception:  # a module that reads its parameters from a file, or is none
            return _trained(self._made)

    @cached_property
    def frozen(self) -> str:
        digest = hashlib.sha256()
        trained = {id(p) for p in self._made.parameters() if p.requires_grad}
        kept = [*self._made.named_parameters(), *self._made.named_buffers()]
        untouched = [(name, tensor) for name, tensor in kept if id(tensor) not in trained]
        for name, tensor in untouched:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:32] if untouched else ""

    def initial(self) -> Weights:
        return self._first.copy()

    def module(self, weights: Weights) -> torch.nn.Module:
        self._first  # noqa: B018  before others are loaded
        load_flat(self._made, weights)
        return self._made

    def outputs(self, weights: Weights, features: Weights) -> Weights:
        module = self.module(weights).eval()
        with torch.no_grad():
            parts = [module(torch.from_numpy(features[at : at + _AT_ONCE])) for at in range(0, len(features), _AT_ONCE)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.width), dtype=np.float32)

    def files(self, weights: Weights) -> Mapping[str, bytes]:
        """Raises KindUnfit for a module that has no portable graph, or one that says something else."""
        from safetensors.torch import save

        module = self.module(weights).eval()
        named = {name: p.detach().contiguous().clone() for name, p in module.named_parameters() if p.requires_grad}
        return {WEIGHTS: save(named), GRAPH: self._graph(module)}

    def _graph(self, module: torch.nn.Module) -> bytes:
        examples = self.examples(5)
        try:
            with _quietly():
                program = torch.onnx.export(
                    module,
                    (torch.from_numpy(examples[:3]),),
                    dynamo=True,
                    dynamic_shapes=({0: torch.export.Dim("rows")},),
                    input_names=["features"],
                    output_names=["outputs"],
                    verbose=False,
                )
            if program is None:
                raise RuntimeError("nothing was exported")
            out = io.BytesIO()
            program.save(out)  # type: ignore[arg-type]  # it writes to files too
        except Exception as error:
            raise KindUnfit(
                f"the module of {self.model.kind} has no portable graph: {type(error).__name__}",
                remedy="Use operations that torch.onnx.export knows; it says which one it does not.",
            ) from error
        from pipeline.learning.models.graph import Graph

        graph = Graph(out.getvalue())
        with torch.no_grad():
            wanted = module(torch.from_numpy(examples)).numpy()
        for rows in (slice(0, 1), slice(0, 5)):
            off = np.abs(graph.outputs(examples[rows]) - wanted[rows]) / np.maximum(np.abs(wanted[rows]), 1.0)
            if not off.max() <= CLOSE:
                raise KindUnfit(
                    f"the portable graph of {self.model.kind} says something else than its module: off by "
                    f"{off.max():.1e}",
                    remedy="What a module says of a row must depend on that row alone, and on no random number.",
                )
        return out.getvalue()

    def examples(self, rows: int) -> Weights:
        """Made-up features, the same every time."""
        return self.shape.examples(rows)


def _trained(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@contextmanager
def _quietly() -> Iterator[None]:
    """What the exporter tells of itself is for those who write it."""
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.setLevel(level)
