"""The same labels moved the slow way, for comparison: object by object, whole masks, shapely for every cut ring."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from tasks.geometry import mask_box, mask_of_rle, rle_of_mask
from tasks.joint_transform import JointObject, Limits, Removed
from tasks.outlines import Ring, corners_of, points_box
from tasks.transform import Transform

SPECK = 1e-6


def transform_one_by_one(
    objects: Sequence[JointObject], transform: Transform, limits: Limits
) -> tuple[list[JointObject], list[Removed]]:
    """What ``transform_objects`` should answer."""
    kept, removed = [], []
    for one in objects:
        moved, visible = _moved(one, transform)
        if moved is None:
            removed.append(Removed(one.id, "too small" if visible > 0 else "outside", visible))
        elif moved.area < limits.area:
            removed.append(Removed(one.id, "too small", visible))
        elif visible >= limits.visible or one.crowd:
            kept.append(moved)
        elif limits.hidden == "crowd":
            kept.append(replace(moved, crowd=True))
        else:
            removed.append(Removed(one.id, "hardly visible", visible))
    return kept, removed


def ring_area(ring: Ring) -> float:
    x, y = (ring - ring[:1]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def nearest(values: NDArray[Any], transform: Transform, fill: Any) -> NDArray[Any]:
    """A map in the target, by an index of every pixel."""
    (height, width), (rows, columns) = transform.source, transform.target
    inverse = np.linalg.inv(transform.matrix)
    inverse = np.round(inverse) if transform.is_exact else inverse
    x, y = np.arange(columns) + 0.5, np.arange(rows)[:, None] + 0.5
    sx, sy, depth = (a * x + b * y + c for a, b, c in inverse)
    ahead = depth > 0
    column, row = (np.floor(along / np.where(ahead, depth, 1.0)) for along in (sx, sy))
    inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = np.where(inside, row * width + column, height * width).astype(np.intp)
    flat = values.reshape(-1, *values.shape[2:])
    found: NDArray[Any] = np.concatenate([flat, np.full_like(flat[:1], fill)])[index]
    return found


def _moved(one: JointObject, transform: Transform) -> tuple[JointObject | None, float]:
    points = None if one.keypoints is None else _keypoints(one, transform)
    if one.rle is not None:
        mask = mask_of_rle(one.rle)
        moved = nearest(mask, transform, False)
        rows, columns = np.nonzero(mask)
        at = transform.points(np.stack([columns + 0.5, rows + 0.5], 1))
        visible = float(((at >= 0) & (at < transform.target[::-1])).all(1).mean()) if len(at) else 0.0
        tight = mask_box(moved)
        if tight is None:
            return None, visible
        return replace(one, box=tight, rle=rle_of_mask(moved), keypoints=points, area=float(moved.sum())), visible
    whole = [transform.points(ring) for ring in one.polygons]
    if not one.polygons:
        whole = [corners_of(points_box(transform.points(corners_of(one.box))))]
    parts, visible = _clipped(whole, transform)
    if not parts:
        return None, visible
    return replace(
        one,
        box=points_box(np.concatenate(parts)),
        polygons=tuple(parts) if one.polygons else (),
        keypoints=points,
        area=sum(ring_area(part) for part in parts),
        is_loose=one.is_loose or not (one.polygons or transform.is_upright),
    ), visible


def _clipped(rings: Sequence[Ring], transform: Transform) -> tuple[list[Ring], float]:
    height, width = transform.target
    found, kept, whole, frame = [], 0.0, 0.0, box(0, 0, width, height)
    for ring in rings:
        if (ring >= 0).all() and (ring <= (width, height)).all():
            found.append(ring)
            kept, whole = kept + ring_area(ring), whole + ring_area(ring)
            continue
        shape: Any = Polygon(ring)
        shape = shape if shape.is_valid else shapely.make_valid(shape)
        parts = [part for piece in _polygons(shapely.intersection(shape, frame)) for part in _without_holes(piece)]
        found += [np.asarray(part.exterior.coords, np.float64)[:-1] for part in parts]
        kept, whole = kept + sum(part.area for part in parts), whole + shape.area
    return found, kept / whole if whole > 0 else float(bool(found))


def _polygons(shape: Any) -> list[Polygon]:
    found = []
    for part in shapely.get_parts(shape):
        if hasattr(part, "geoms"):
            found += _polygons(part)
        elif isinstance(part, Polygon) and part.area >= SPECK:
            found.append(part)
    return found


def _without_holes(shape: Polygon) -> list[Polygon]:
    if not shape.interiors:
        return [shape]
    left, bottom, right, top = shape.bounds
    x1, _, x2, _ = shape.interiors[0].bounds
    halves = box(left, bottom, (x1 + x2) / 2, top), box((x1 + x2) / 2, bottom, right, top)
    pieces = [piece for half in halves for piece in _polygons(shapely.intersection(shape, half))]
    return [part for piece in pieces for part in _without_holes(piece)]


def _keypoints(one: JointObject, transform: Transform) -> NDArray[np.float64]:
    assert one.keypoints is not None
    height, width = transform.target
    xy, v = transform.points(one.keypoints[:, :2]), one.keypoints[:, 2]
    below = xy <= (width, height) if transform.keeps_all else xy < (width, height)
    inside = ((xy >= 0) & below).all(1)
    moved = np.concatenate([xy, v[:, None]], 1) * (inside & (v > 0))[:, None]
    order = np.arange(len(moved))
    for left, right in one.flip_pairs if transform.mirrors else ():
        order[left], order[right] = right, left
    found: NDArray[np.float64] = moved[order] + 0.0
    return found
