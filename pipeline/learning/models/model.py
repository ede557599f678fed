"""A model: built from its settings alone, so that every client and the endpoint build the same one."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pipeline.host.code import code_digest
from pipeline.kinds import Kind
from pipeline.learning.models.net import Net
from pipeline.learning.shape import Shape

if TYPE_CHECKING:
    import torch


class Model(Kind):
    """One's own: extend it in a package that is installed, and name it as `package.module:Class`.

    Only parameters that require a gradient are trained and travel. All others, and all buffers, come from each owner's
    installation: `module` has to make the same ones everywhere.
    """

    BUILT_IN: ClassVar[Mapping[str, str]] = {
        "linear": "pipeline.learning.models.linear:Linear",
        "mlp": "pipeline.learning.models.mlp:Mlp",
        "conv": "pipeline.learning.models.conv:Conv",
        "text": "pipeline.learning.models.text:Text",
        "additive": "pipeline.learning.models.additive:Additive",
        "trees": "pipeline.learning.models.trees:Trees",
    }
    USUAL: ClassVar[str | None] = "mlp"
    NET: ClassVar[str] = "pipeline.learning.models.modular:Modular"
    """Made of the module; by name, so that only what uses it depends on it."""

    @property
    def sums(self) -> int:
        """Rounds of which each asks for one sum; 0: it is learned by local steps."""
        return 0

    @abstractmethod
    def module(self, shape: Shape, outputs: int) -> torch.nn.Module:
        """The untrained module: float32 features [rows, shape.width] to [rows, outputs]."""

    def fits(self, shape: Shape) -> None:
        """Raise ValueError, naming the column, for features that it cannot take."""

    def net(self, shape: Shape, outputs: int, seed: int) -> Net:
        """The model for features of this shape. seed: of its initial parameters."""
        module, _, name = self.NET.partition(":")
        made: Net = getattr(importlib.import_module(module), name)(self, shape, outputs, seed)
        return made

    @property
    def code(self) -> str:
        return code_digest(type(self).__module__, self.NET.partition(":")[0])
