"""A column of images, as the bytes of their files."""

from __future__ import annotations

import base64
import binascii
import io
import math
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.learning.columns.column import Column, Matrix
from privacy.noise import Integers

if TYPE_CHECKING:
    import pandas as pd

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MOST_PIXELS = 50_000_000
"""Of an image; a larger one is none: a file of some bytes can say that it is as large as memory."""
THERE, MISSING, BROKEN = range(3)


Side = Annotated[int, Field(ge=1, le=1024)]


class Image(Column):
    """Scaled to one size and to so many channels; a missing image, and what is none, is black.

    In a table it is bytes, or text in base64; in a request text in base64.
    """

    kind: Literal["image"] = Field(description="An image.")
    size: tuple[Side, Side] = Field(description="Width and height in pixels, after scaling.")
    channels: Literal[1, 3] = Field(1, description="1: shades of grey; 3: red, green and blue.")
    mean: tuple[float, ...] = Field((0.0,), description="Taken from every pixel, in [0, 1]; one, or one a channel.")
    deviation: tuple[float, ...] = Field((1.0,), description="What that is divided by; one, or one a channel.")
    example: str | None = Field(None, description="An image in base64, for documentation and the first prediction.")

    breaks: ClassVar[Literal["categories"]] = "categories"
    ordered: ClassVar[bool] = False
    dtype: ClassVar[Literal["str"]] = "str"

    @model_validator(mode="after")
    def _normal(self) -> Self:
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"expected one {name}, or one for each of {self.channels} channels")
        if not all(value > 0 for value in self.deviation):
            raise ValueError("expected deviations above 0")
        return self

    @property
    def declared(self) -> list[object]:
        return [self.kind, *self.shape, list(self.mean), list(self.deviation)]

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        width, height = self.size
        return (self.channels, height, width)

    def typed(self, values: pd.Series) -> npt.NDArray[Any]:
        """In base64."""
        kept = np.empty(len(values), dtype=object)
        kept[:] = [_text(cell) for cell in values]
        return kept

    def encoded(self, values: pd.Series) -> Matrix:
        """Channel after channel, row after row."""
        images = np.zeros((len(values), *self.shape), dtype=np.float32)
        for row, cell in enumerate(values):
            pixels = self._pixels(_text(cell))
            if pixels is not None:
                images[row] = pixels
        normal: Matrix = (images - self._mean) / self._deviation
        return normal.reshape(len(values), self.width)

    @property
    def cells(self) -> int:
        """There, missing, none."""
        return 3

    @property
    def broken(self) -> int | None:
        return BROKEN

    @property
    def ranking(self) -> int:
        return self.cells

    def counted(self, values: pd.Series) -> Integers:
        def cell(text: str) -> int:
            return MISSING if not text else THERE if self._pixels(text) is not None else BROKEN

        return np.fromiter((cell(_text(value)) for value in values), dtype=np.int64, count=len(values))

    def accepted(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str) or self._pixels(value) is None:
            raise ValueError("expected an image in base64, or null")
        return value

    @property
    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "contentEncoding": "base64"}

    @property
    def usual(self) -> str:
        if self.example is not None:
            return self.example
        from PIL import Image as Pictures

        out = io.BytesIO()
        Pictures.new("L", (1, 1), 128).save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()

    @cached_property
    def _mean(self) -> Matrix:
        return np.array(self.mean, dtype=np.float32).reshape(-1, 1, 1)

    @cached_property
    def _deviation(self) -> Matrix:
        return np.array(self.deviation, dtype=np.float32).reshape(-1, 1, 1)

    def _pixels(self, text: str) -> Matrix | None:
        """[channels, height, width] in [0, 1]; None: it is no image."""
        from PIL import Image as Pictures

        try:
            content = base64.b64decode(text, validate=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Pictures.open(io.BytesIO(content), formats=_FORMATS) as picture:
                    if picture.width * picture.height > MOST_PIXELS:
                        return None
                    plain = picture.convert("L" if self.channels == 1 else "RGB")
            if plain.size != self.size:
                plain = plain.resize(self.size, Pictures.Resampling.BILINEAR)
        except (binascii.Error, ValueError, OSError, SyntaxError, Pictures.DecompressionBombError):
            return None
        width, height = self.size
        pixels = np.asarray(plain, dtype=np.float32).reshape(height, width, self.channels) / np.float32(255)
        return pixels.transpose(2, 0, 1)


def _text(cell: Any) -> str:
    """Base64 of the bytes of an image; empty: there are none."""
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    return cell if isinstance(cell, str) else ""
