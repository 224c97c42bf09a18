"""Whole columns hold what rows made one by one would hold."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tasks.data.manifest import ObjectRecord
from tasks.data.object_columns import OBJECT, objects_column

BOX = ObjectRecord((1, 2, 3.5, 4), 2)
FULL = ObjectRecord(
    (0, 0, 9, 9), 0, True, {"size": [5, 6], "counts": b"ab"}, ((1.5, 2, 3, 4, 5, 6), (7, 8, 9, 1, 2, 3)), (4, 5, 2)
)


def row(one: ObjectRecord) -> dict[str, Any]:
    found: Any = {**asdict(one), **dict(zip(("x1", "y1", "x2", "y2"), one.box, strict=True))}
    if one.rle is not None:
        found["rle"] = {"height": 5, "width": 6, "counts": b"ab"}
    return {**found, "polygons": list(map(list, one.polygons)), "keypoints": list(one.keypoints)}


def test_they_are_the_rows() -> None:
    images: list[tuple[ObjectRecord, ...] | None] = [(BOX, FULL), None, (), (FULL,), None]
    rows = [None if image is None else [row(one) for one in image] for image in images]
    assert objects_column(images).equals(pa.array(rows, pa.list_(OBJECT)))


def test_nothing_at_all() -> None:
    for images in ([], [None], [()]):
        assert objects_column(images).equals(pa.array([None if i is None else [] for i in images], pa.list_(OBJECT)))
