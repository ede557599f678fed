"""A function that the owner has installed, which returns the table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clients.sources.source import Source
from privacy.errors import ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd


class Function(Source):
    """It is called for every snapshot, and to see whether the table has changed."""

    kind: Literal["callable"] = Field(description="A Python function.")
    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="`package.module:function`; it takes nothing."
    )

    def read(self) -> pd.DataFrame:
        """Raises SourceMissing when it cannot be found or fails, ContractViolated when it returns no table."""
        import pandas as pd

        module, _, name = self.function.partition(":")
        try:
            made: Any = getattr(importlib.import_module(module), name)()
        except Exception as error:  # the owner's own code; what it says may quote data
            raise SourceMissing(
                f"the function {self.function} failed: {type(error).__name__}",
                remedy="Call it by itself to see why; correct source.function in policy.yaml.",
            ) from error
        if not isinstance(made, pd.DataFrame):
            raise ContractViolated(f"{self.function} returned no pandas table, but {type(made).__name__}")
        return made.reset_index(drop=True).rename(columns=str)

    def columns(self) -> list[str]:
        return list(self.read().columns)

    def seen(self) -> None:
        return None
