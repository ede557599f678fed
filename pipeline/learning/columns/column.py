"""A raw column: everything that depends on its kind, so that another kind is another file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from pipeline.kinds import Kind
from pipeline.learning.columns.axis import Axis
from privacy.noise import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.float32]
Encoder = Callable[[Any, Matrix], None]
"""Writes one accepted cell into its features [width], which are 0."""


class Column(Kind):
    """What is declared about a column, and what follows from that. What is `unfitted` waits for charged statistics.

    What becomes of a cell depends on that cell alone (pipeline.learning.cells).
    """

    BUILT_IN: ClassVar[Mapping[str, str]] = {
        "numeric": "pipeline.learning.columns.numeric:Numeric",
        "categorical": "pipeline.learning.columns.categorical:Categorical",
        "hashed": "pipeline.learning.columns.hashed:Hashed",
        "boolean": "pipeline.learning.columns.boolean:Boolean",
        "text": "pipeline.learning.columns.text:Text",
        "tokens": "pipeline.learning.columns.tokens:Tokens",
        "time": "pipeline.learning.columns.time:Time",
        "image": "pipeline.learning.columns.image:Image",
    }

    breaks: ClassVar[Literal["bounds", "categories"]]
    """The check that says how many cells break the declaration."""
    ordered: ClassVar[bool]
    """Whether the cells of its check follow one another, or are names."""
    dtype: ClassVar[Literal["float64", "str"]]
    """Of the column in a table."""

    @property
    @abstractmethod
    def declared(self) -> list[object]:
        """The declaration as JSON that is the same in every process; columns with equal ones mean the same."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Features that a cell becomes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How a model may take the features: numbers side by side, or channels, height and width of an image."""
        return (self.width,)

    @property
    def vocabulary(self) -> int | None:
        """The features are whole numbers below this, each standing for a word; None: they are quantities."""
        return None

    def axes(self, fine: int) -> tuple[Axis, ...]:
        """Its features as bins, `fine` of them where it is a quantity; none: they are no bins."""
        return ()

    @abstractmethod
    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        """The cells as a snapshot keeps them."""

    @abstractmethod
    def encoded(self, values: pd.Series) -> Matrix:
        """float32 [rows, width]: quantities in [0, 1], or numbers of words below `vocabulary`."""

    def encoder(self) -> Encoder:
        """`encoded` for one cell, to the last bit: whoever answers single rows cannot afford a table for each."""

        def encode(value: Any, into: Matrix) -> None:
            import pandas as pd

            into[:] = self.encoded(pd.Series([value], dtype=self.dtype))[0]

        return encode

    @property
    @abstractmethod
    def cells(self) -> int:
        """Cells that its check counts in; a row is in one of them."""

    @property
    @abstractmethod
    def broken(self) -> int | None:
        """The cell of what breaks the declaration; None: nothing can."""

    @property
    def lacking(self) -> int | None:
        """The cell of what is missing; None: it is in none of its own."""
        return None

    @property
    @abstractmethod
    def ranking(self) -> int:
        """How many of the cells, from the first, may tell the label."""

    @abstractmethod
    def counted(self, values: pd.Series) -> Integers:
        """The cell of each row."""

    # -- what a statistic of it counts; finer than a check, where its values have an order ----------------------------
    def bins(self, fine: int) -> int:
        """Bins of its distribution; a row is in one of them. fine: how many to divide a range into."""
        return self.cells

    def binned(self, values: pd.Series, fine: int) -> Integers:
        """The bin of each row."""
        return self.counted(values)

    def bin_names(self, fine: int) -> list[str]:
        """What each bin holds, in words."""
        return [str(cell) for cell in range(self.cells)]

    def edges_of(self, fine: int) -> Floats | None:
        """Edges [fine + 1] of the first bins; None: they are names."""
        return None

    @property
    def unfitted(self) -> bool:
        """Whether its encoding waits for its distribution over all clients."""
        return False

    def fitted(self, counts: Floats) -> Self:
        """The column with all that its encoding needs. counts: [bins], noisy, of the bins that `edges_of` divides."""
        return self

    @abstractmethod
    def accepted(self, value: Any) -> Any:
        """What a request says of it, as `encoded` takes it. Raises ValueError saying what was expected."""

    @property
    @abstractmethod
    def json_schema(self) -> dict[str, object]:
        """JSON Schema of a value in a request."""

    @property
    @abstractmethod
    def usual(self) -> float | str:
        """A value for documentation and the first prediction."""
