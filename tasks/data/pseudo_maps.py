"""Labels that a network made, as PNGs of the kind that a data set has: of the size of the stored image.

A semantic map holds the values that the data set's own maps have for a class, so that one lut reads both.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.data.depth_png import MADE
from tasks.geometry import Size, resize_nearest
from tasks.types import IGNORE


def class_png(classes: NDArray[np.int64], lut: Sequence[int], size: Size) -> bytes:
    """An 8-bit PNG of a map of classes ``[h, w]`` (255 = ignore), nearest at H, W ``size``.

    ValueError where the data set has no value for a class.
    """
    table = np.full(256, -1)
    for value in reversed(range(256)):  # of several values of a class the first one
        if lut[value] >= 0:
            table[lut[value]] = value
    found = table[classes]
    if (found < 0).any():
        number = int(classes[found < 0].flat[0])
        what = "pixels to be ignored" if number == IGNORE else f"class {number}"
        raise ValueError(f"semantic maps of this data set have no value for {what}; expected one in its lut: add it")
    return _png(resize_nearest(found.astype(np.uint8), size))


def depth_png(metres: NDArray[np.float32], size: Size) -> bytes:
    """A 16-bit PNG of metres ``[h, w]`` (NaN = no label), nearest at H, W ``size``; ``MADE`` says what it means."""
    return _png(resize_nearest(MADE.values(metres), size))


def _png(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()
