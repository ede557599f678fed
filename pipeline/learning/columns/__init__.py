"""Kinds of columns, one a file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.learning.columns.boolean import Boolean
from pipeline.learning.columns.categorical import Categorical
from pipeline.learning.columns.hashed import Hashed
from pipeline.learning.columns.numeric import Numeric
from pipeline.learning.columns.text import Text
from pipeline.learning.columns.time import Time

AnyColumn = Annotated[Numeric | Categorical | Hashed | Boolean | Text | Time, Field(discriminator="kind")]
"""A column of a kind that is known here, told by its `kind`."""
