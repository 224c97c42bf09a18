"""The labeled objects of many images as one Arrow column: whole columns are made at once, not row by row."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_RLE = pa.struct([("height", pa.int32()), ("width", pa.int32()), ("counts", pa.binary())])
OBJECT = pa.struct(
    [
        *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        ("label", pa.int32()),
        ("crowd", pa.bool_()),
        ("rle", _RLE),
        ("polygons", pa.list_(pa.list_(pa.float32()))),
        ("keypoints", pa.list_(pa.float32())),
    ]
)


class ObjectFields(Protocol):
    """What is kept of a labeled object: see ``ObjectRecord``."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...

    @property
    def label(self) -> int: ...

    @property
    def crowd(self) -> bool: ...

    @property
    def rle(self) -> Mapping[str, object] | None: ...

    @property
    def polygons(self) -> tuple[tuple[float, ...], ...]: ...

    @property
    def keypoints(self) -> tuple[float, ...]: ...


def objects_column(images: Sequence[Sequence[ObjectFields] | None]) -> Any:
    """The Arrow array of the objects of some images: a list of ``OBJECT`` for each, null where it has none."""
    found = [one for image in images if image is not None for one in image]
    boxes = _floats(one.box for one in found).reshape(-1, 4)
    parts = [part for one in found for part in one.polygons]
    columns = [
        *(pa.array(np.ascontiguousarray(boxes[:, side])) for side in range(4)),
        pa.array([one.label for one in found], pa.int32()),
        pa.array([one.crowd for one in found], pa.bool_()),
        pa.array([_rle_row(one.rle) for one in found], _RLE),
        _lists(map(len, (one.polygons for one in found)), _lists(map(len, parts), pa.array(_floats(parts)))),
        _lists((len(one.keypoints) for one in found), pa.array(_floats(one.keypoints for one in found))),
    ]
    objects = pa.StructArray.from_arrays(columns, fields=list(OBJECT))
    missing = [image is None for image in images]
    ends = np.cumsum([0, *(len(image or ()) for image in images)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), objects, pa.list_(OBJECT), mask=pa.array(missing, pa.bool_()))


def _rle_row(rle: Mapping[str, object] | None) -> dict[str, object] | None:
    if rle is None:
        return None
    size: Any = rle["size"]
    return {"height": size[0], "width": size[1], "counts": rle["counts"]}


def _floats(rows: Iterable[Iterable[float]]) -> NDArray[np.float32]:
    return np.fromiter(chain.from_iterable(rows), np.float64).astype(np.float32)


def _lists(lengths: Iterable[int], values: Any) -> Any:
    """An array of lists of these lengths, cut from ``values`` one after another."""
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths], dtype=np.int32)), values)
