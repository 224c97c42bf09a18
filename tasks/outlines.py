"""Outlines of objects under a transform: polygons stay polygons, run-length masks stay run-length masks.

A ring is the closed border of one part, ``[n, 2]`` xy without the first point again. COCO's polygons have no holes, so
what would have one is cut in two through it: the same area, in parts.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from tasks.geometry import Rle, patch_of_rle, polygon_areas, rle_of_patch
from tasks.resampling import Resampling
from tasks.transform import Size, Transform

Ring = NDArray[np.float64]  # [n, 2]
Box = tuple[float, float, float, float]  # xyxy
_Flags = NDArray[Any]  # bool
_SPECK = 1e-6  # px²: parts below are rounding, not shape
_POLYGON, _EMPTY = 3, Polygon()  # shapely's number of that type; nothing
_MARGIN = 1e-6  # px: more than rounding moves a point by


class Shown(NamedTuple):
    """What is left of an object in the target; without a box nothing is."""

    box: Box | None  # tight
    area: float  # px²
    visible: float  # share of the object that is in the picture
    parts: tuple[Ring, ...] = ()
    rle: Rle | None = None


class _Cut(NamedTuple):
    """A ring that reaches beyond the border."""

    parts: tuple[Ring, ...]  # within
    box: Box | None  # around these
    area: float  # px² of these
    whole: float  # px² of all of it


def points_box(points: Ring) -> Box:
    """The tight box of points ``[n, 2]``, n > 0."""
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def corners_of(one: Box) -> Ring:
    """The four corners of a box, clockwise."""
    x1, y1, x2, y2 = one
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def move_rings(outlines: Sequence[Sequence[Ring]], transform: Transform) -> list[Shown]:
    """What the target shows of objects of one or more rings each, in their order. All points move in one product.

    The cut at the border is exact: what is cut off leaves points where the outline crosses the border, and a part may
    become several. Where a ring crosses itself, its inside is where an odd number of windings is (as pycocotools fills
    it). Rings that are inside are only moved.
    """
    rings, counts = [ring for one in outlines for ring in one], [len(one) for one in outlines]
    if not rings:
        return []
    ends = np.cumsum([len(ring) for ring in rings])
    starts = np.append(0, ends[:-1])
    points = transform.points(np.concatenate(rings))
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    border = np.array(transform.target[::-1], np.float64)
    inside, beyond = _all((low >= 0) & (high <= border)), ~_all((high > 0) & (low < border))
    gone = np.logical_and.reduceat(beyond, np.cumsum([0, *counts[:-1]]))
    crossing = np.flatnonzero(~(inside | gone.repeat(counts))).tolist()
    moved = [points[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    cuts = dict(zip(crossing, _cut([moved[i] for i in crossing], ~beyond[crossing], transform.target), strict=True))
    boxes, areas = np.concatenate([low, high], 1).tolist(), polygon_areas(points, starts).tolist()
    found, numbers = [], iter(range(len(rings)))
    for count, is_gone in zip(counts, gone.tolist(), strict=True):
        own = list(islice(numbers, count))
        if is_gone:
            found.append(Shown(None, 0.0, 0.0))
        elif cuts and any(i in cuts for i in own):
            found.append(_joined([cuts.get(i) or _Cut((moved[i],), tuple(boxes[i]), areas[i], areas[i]) for i in own]))
        elif count == 1:
            found.append(Shown(tuple(boxes[own[0]]), areas[own[0]], 1.0, (moved[own[0]],)))
        else:
            hull = points_box(np.reshape([boxes[i] for i in own], (-1, 2)))
            found.append(Shown(hull, sum(areas[i] for i in own), 1.0, tuple(moved[i] for i in own)))
    return found


def move_boxes(boxes: Sequence[Box], transform: Transform) -> list[Shown]:
    """What the target shows of objects of which only a box is known: the hull of its corners, cut at the border."""
    if not boxes:
        return []
    given = np.array(boxes, np.float64)
    corners = transform.points(given[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    low, high = corners.min(1), corners.max(1)
    border = np.array(transform.target[::-1], np.float64)
    kept_low, kept_high = low.clip(0, border), high.clip(0, border)
    kept, whole = (kept_high - kept_low).prod(1), (high - low).prod(1)
    is_left = _all((low >= 0) & (high <= border)) | (kept >= _SPECK)
    visible = np.divide(kept, whole, out=np.ones_like(kept), where=whole > 0)
    kept_boxes = np.concatenate([kept_low, kept_high], 1).tolist()
    rows = zip(is_left.tolist(), kept_boxes, kept.tolist(), visible.tolist(), strict=True)
    return [Shown(tuple(one), area, share) if left else Shown(None, 0.0, 0.0) for left, one, area, share in rows]


def move_rle(rle: Rle, transform: Transform, resampling: Resampling) -> Shown:
    """What the target shows of a mask (nearest): its pixels, its tight box, and which share of it is in the picture.

    The share counts source pixels whose centre arrives inside, so that it does not depend on the change of size.
    """
    patch, top, left = patch_of_rle(rle)
    moved, place = resampling.patch(patch, top, left)
    found, pixels, tight = rle_of_patch(moved, place.top, place.left, transform.target)
    return Shown(tight, float(pixels), _share(patch, top, left, pixels, transform), rle=found)


def _share(patch: NDArray[np.bool_], top: int, left: int, pixels: int, transform: Transform) -> float:
    """Which share of the pixels of a patch has its centre in the target, which shows ``pixels``."""
    count = int(np.count_nonzero(patch))
    if count == 0 or transform.is_exact:
        return pixels / max(count, 1)
    border = np.array(transform.target[::-1], np.float64)
    corners = transform.points(corners_of((left, top, left + patch.shape[1], top + patch.shape[0])))
    if transform.is_affine and ((corners >= _MARGIN) & (corners <= border - _MARGIN)).all():
        return 1.0
    rows, columns = np.nonzero(patch)
    at = transform.points(np.stack([columns + (left + 0.5), rows + (top + 0.5)], 1))
    return float(((at >= 0) & (at < border)).all(1).mean())


def _all(flags: _Flags) -> _Flags:
    """Whether both x and y are so."""
    return flags[:, 0] & flags[:, 1]


# ---- rings that reach beyond the border -----------------------------------------------------------------------------


def _joined(cuts: Sequence[_Cut]) -> Shown:
    """What is left of an object of some rings."""
    left = [one for one in cuts if one.box is not None]
    if not left:
        return Shown(None, 0.0, 0.0)
    tight = left[0].box if len(left) == 1 else points_box(np.reshape([one.box for one in left], (-1, 2)))
    area, whole = sum(one.area for one in left), sum(one.whole for one in cuts)
    return Shown(tight, area, area / whole if whole > 0 else 0.0, tuple(part for one in left for part in one.parts))


def _cut(rings: Sequence[Ring], reaches: _Flags, size: Size) -> list[_Cut]:
    """The rings cut at the border of an image of H, W; nothing is left of those that do not reach into it."""
    if not rings:
        return []
    owners = np.arange(len(rings)).repeat([len(ring) for ring in rings])
    shapes: Any = shapely.polygons(shapely.linearrings(np.concatenate(rings), indices=owners))
    wrong = ~shapely.is_valid(shapes)
    if wrong.any():
        shapes[wrong] = shapely.make_valid(shapes[wrong])
    shown: Any = np.full(len(rings), _EMPTY)
    shown[reaches] = shapely.intersection(shapes[reaches], _frame(size))
    areas = shapely.area(shown)
    simple = (shapely.get_type_id(shown) == _POLYGON) & (shapely.get_num_interior_rings(shown) == 0) & (areas >= _SPECK)
    points = shapely.get_coordinates(shown[simple])
    ends = iter(np.cumsum(shapely.get_num_coordinates(shown[simple])).tolist())
    found, start = [], 0
    rows = (simple, shapely.bounds(shown), areas, shapely.area(shapes))
    for shape, is_simple, bounds, area, whole in zip(shown, *(one.tolist() for one in rows), strict=True):
        if is_simple:
            end = next(ends)
            found.append(_Cut((points[start : end - 1],), tuple(bounds), area, whole))
            start = end
        else:
            found.append(_cut_in_parts(shape, whole))
    return found


def _cut_in_parts(shape: Any, whole: float) -> _Cut:
    """What shapely left of a ring of ``whole`` px², where it is no plain polygon."""
    parts = [part for piece in _polygons(shape) for part in _without_holes(piece)]
    if not parts:
        return _Cut((), None, 0.0, whole)
    rings = tuple(shapely.get_coordinates(part)[:-1] for part in parts)
    return _Cut(rings, points_box(np.concatenate(rings)), sum(part.area for part in parts), whole)


@lru_cache(maxsize=64)
def _frame(size: Size) -> Polygon:
    return box(0, 0, size[1], size[0])


def _polygons(shape: Any) -> Iterator[Polygon]:
    """The polygons of a geometry that are more than a speck; lines and points are what a cut leaves on a border."""
    for part in (shape,) if isinstance(shape, Polygon) else shapely.get_parts(shape):
        if isinstance(part, Polygon):
            if part.area >= _SPECK:
                yield part
        elif hasattr(part, "geoms"):  # a collection inside a collection
            yield from _polygons(part)


def _without_holes(shape: Polygon) -> Iterator[Polygon]:
    """The polygon in parts that have no hole: cut upright through the middle of its first hole, again and again."""
    if not shapely.get_num_interior_rings(shape):
        yield shape
        return
    left, bottom, right, top = shape.bounds
    hole = shape.interiors[0].bounds
    middle = (hole[0] + hole[2]) / 2
    for half in (box(left, bottom, middle, top), box(middle, bottom, right, top)):
        for piece in _polygons(shapely.intersection(shape, half)):
            yield from _without_holes(piece)
