"""Annotations of the combined COCO file as joint objects, and back: what they hold beside geometry travels along."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.data.combined import are_finite, flip_pairs
from tasks.geometry import Rle, rle_of, run_lengths
from tasks.joint_transform import JointObject
from tasks.outlines import Ring, corners_of, points_box
from tasks.transform import Size, Transform

_DECIMALS = 6  # of a pixel: what is read with fewer comes back the same from two mirrors
Annotation = Mapping[str, Any]


def joint_object(one: Annotation, category: Mapping[str, Any], size: Size, where: str) -> JointObject:
    """The object of an annotation of an image of H, W. ValueError, naming ``where``, for one that cannot be used."""
    where = f"{where}: annotation {one['id']}"
    x, y, width, height = _box(one["bbox"], where)
    segmentation, points = one.get("segmentation"), one.get("keypoints") or None
    rings: tuple[Ring, ...] = ()
    rle: Rle | None = None
    if segmentation:
        try:
            rle = rle_of(segmentation, size)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}: correct the mask") from None
    if isinstance(segmentation, list):
        rings, rle = tuple(np.reshape(ring, (-1, 2)).astype(np.float64) for ring in segmentation), None
    return JointObject(
        id=one["id"],
        box=(x, y, x + width, y + height),
        polygons=rings,
        rle=rle,
        keypoints=None if points is None else _points(points, category, where),
        flip_pairs=flip_pairs(category),
        crowd=bool(one.get("iscrowd", 0)),
        is_loose=bool(one.get("box_loose", False)),
    )


def annotation_of(found: JointObject, before: Annotation, transform: Transform) -> dict[str, Any]:
    """The annotation of a changed object: that from before with all its geometry renewed, in the form that it had."""
    x1, y1, x2, y2 = found.box
    made: dict[str, Any] = {
        **before,
        "bbox": _rounded((x1, y1, x2 - x1, y2 - y1)),
        "area": round(found.area, _DECIMALS),
        "augmented_from": before["id"],
    }
    if found.polygons:
        made["segmentation"] = [_rounded(ring.ravel()) for ring in found.polygons]
    elif found.rle is not None:
        counts: Any = found.rle["counts"]
        is_list = isinstance(before["segmentation"]["counts"], list)
        made["segmentation"] = {
            "size": list(transform.target),
            "counts": run_lengths(counts) if is_list else counts.decode("ascii"),
        }
    if found.keypoints is not None:
        made["keypoints"] = [int(v) if i % 3 == 2 else v for i, v in enumerate(_rounded(found.keypoints.ravel()))]
        made["num_keypoints"] = int((found.keypoints[:, 2] > 0).sum())
    if found.is_loose:
        made["box_loose"] = True
    if "ls_box" in made:
        made["ls_box"] = _moved_box(before["ls_box"], transform)
    return made


def _box(values: Any, where: str) -> tuple[float, float, float, float]:
    if len(values) != 4 or not are_finite(values) or values[2] <= 0 or values[3] <= 0:
        raise ValueError(
            f"{where}: has the bbox {str(values)[:60]}; expected x, y and a width and height above 0: correct it"
        )
    x, y, width, height = map(float, values)
    return x, y, width, height


def _points(values: Any, category: Mapping[str, Any], where: str) -> Any:
    names = category.get("keypoints") or ()
    if not isinstance(values, list) or len(values) != 3 * len(names) or not are_finite(values):
        raise ValueError(
            f"{where}: has the keypoints {str(values)[:60]}; expected {len(names)} times x, y, v, as its category "
            f"{category['name']!r} lists them: correct them"
        )
    return np.reshape(values, (-1, 3)).astype(np.float64)


def _moved_box(box_xywh: Sequence[float], transform: Transform) -> list[float]:
    """A box that somebody drew: the hull of its corners, cut at the border."""
    x, y, width, height = box_xywh
    corners = transform.points(corners_of((x, y, x + width, y + height))).clip(0, transform.target[::-1])
    x1, y1, x2, y2 = points_box(corners)
    return _rounded((x1, y1, x2 - x1, y2 - y1))


def _rounded(values: Any) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]
