"""Semantic maps that an adapter makes from the masks of its data set: class ids, painted one over the other."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.files import Place, write_bytes

BACKGROUND = "background"  # the class of the pixels that no mask covers
IGNORE = 255
_MOST = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 26)  # px of an image that Pillow opens
Box = tuple[float, float, float, float]


def painted_classes(surfaces: Iterable[str], objects: Iterable[str]) -> ClassMap:
    """Background, then surfaces, then the classes of objects; only the last ones are detected. Each name counts once.

    Background is a class that is trained: without it every pixel that no mask covers would be ignored, and the classes
    of objects would flood the image.
    """
    detection = tuple(dict.fromkeys(objects))
    segmentation = tuple(dict.fromkeys((BACKGROUND, *surfaces, *detection)))
    return ClassMap(detection, segmentation, tuple(segmentation.index(name) for name in detection))


def painted_lut(classes: ClassMap) -> tuple[int, ...]:
    """The values of painted maps are the classes; 255 is ignore, and nothing else may occur."""
    count = len(classes.segmentation)
    return tuple(value if value < count or value == IGNORE else -1 for value in range(256))


def write_map(path: Path, values: NDArray[np.uint8]) -> None:
    """An 8-bit PNG of class ids ``[H, W]``, whole or not there."""
    png = BytesIO()
    Image.fromarray(values).save(png, "PNG")
    write_bytes(str(path), Path(), png.getvalue())


def is_newer(made: Path, sources: Sequence[Place]) -> bool:
    """Whether a file that was made is there, and newer than all that it was made from.

    False for objects in storage, whose times are by another clock.
    """
    if not made.is_file():
        return False
    since = made.stat().st_mtime_ns
    return all(isinstance(one, Path) and one.is_file() and since > one.stat().st_mtime_ns for one in sources)


def check_canvas(size: tuple[int, int]) -> None:
    """ValueError where an image is listed with H, W that no map can be painted in."""
    height, width = size
    if min(size) < 1 or height * width > _MOST:
        raise ValueError(f"is listed as {height} x {width} px (H x W); expected 1 or more each, and {_MOST} px at most")


def fill_box(values: NDArray[np.uint8], box: Box, value: int) -> None:
    """Paint all pixels that a box xyxy touches."""
    if not np.isfinite(box).all():
        return
    x1, y1 = (max(0, int(np.floor(edge))) for edge in box[:2])
    x2, y2 = (max(0, int(np.ceil(edge))) for edge in box[2:])
    values[y1:y2, x1:x2] = value


def clipped(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box xyxy that lies in an image of H, W; NaN stays NaN, so that it is seen."""
    height, width = float(size[0]), float(size[1])
    x1, y1, x2, y2 = (float(value) for value in np.clip(box, 0.0, (width, height, width, height)))
    return x1, y1, x2, y2


def box_of(values: object) -> Box:
    """Four numbers; NaN where they are something else, so that ``prepare`` tells of it."""
    nan = float("nan")
    if not isinstance(values, list | tuple) or len(values) != 4:
        return nan, nan, nan, nan
    a, b, c, d = values
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return nan, nan, nan, nan
    try:
        return float(a), float(b), float(c), float(d)
    except OverflowError:
        return nan, nan, nan, nan
