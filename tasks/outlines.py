"""Outlines of objects under a transform: polygons stay polygons, run-length masks stay run-length masks.

A ring is the closed border of one part, ``[n, 2]`` xy without the first point again. COCO's polygons have no holes, so
what would have one is cut in two through it: the same area, in parts.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from tasks.geometry import Rle, mask_box, mask_of_rle, rle_area, rle_of_mask
from tasks.resampling import Resampling
from tasks.transform import Size, Transform

Ring = NDArray[np.float64]  # [n, 2]
Box = tuple[float, float, float, float]  # xyxy
_SPECK = 1e-6  # px²: parts below are rounding, not shape


def ring_area(ring: Ring) -> float:
    """The area of a ring (shoelace), positive whichever way round it goes."""
    x, y = (ring - ring[:1]).T  # near the origin nothing is lost to cancellation
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def points_box(points: Ring) -> Box:
    """The tight box of points ``[n, 2]``, n > 0."""
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    return float(x1), float(y1), float(x2), float(y2)


def corners_of(one: Box) -> Ring:
    """The four corners of a box, clockwise."""
    x1, y1, x2, y2 = one
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def clip_rings(rings: Sequence[Ring], size: Size) -> tuple[tuple[Ring, ...], float]:
    """The parts within an image of H, W, and their share of the whole area. Rings that are inside stay as they are.

    The cut is exact: what is cut off leaves points where the outline crosses the border, and a part may become several.
    Where a ring crosses itself, its inside is where an odd number of windings is (as pycocotools fills it).
    """
    frame, inside, found, kept, whole = box(0, 0, size[1], size[0]), True, [], 0.0, 0.0
    for ring in rings:
        if (ring >= 0).all() and (ring <= (size[1], size[0])).all():
            found.append(ring)
            area = ring_area(ring)
            kept, whole = kept + area, whole + area
            continue
        inside = False
        shape = _valid(Polygon(ring))
        parts = [part for piece in _polygons(shapely.intersection(shape, frame)) for part in _without_holes(piece)]
        found += [_ring_of(part) for part in parts]
        kept, whole = kept + sum(part.area for part in parts), whole + shape.area
    share = 1.0 if inside else kept / whole if whole > 0 else 0.0
    return tuple(found), share


def move_rle(rle: Rle, transform: Transform, resampling: Resampling) -> tuple[Rle, int, Box | None, float]:
    """The mask in the target (nearest), its pixels, its tight box, and which share of the mask is in the picture.

    The share counts source pixels whose centre arrives inside, so that it does not depend on the change of size.
    """
    mask = mask_of_rle(rle)
    moved = resampling.nearest(mask, False)
    rows, columns = np.nonzero(mask)
    at = transform.points(np.stack([columns + 0.5, rows + 0.5], 1))
    inside = ((at >= 0) & (at < (transform.target[1], transform.target[0]))).all(1)
    found = rle_of_mask(moved)
    return found, rle_area(found), mask_box(moved), float(inside.mean()) if len(at) else 0.0


def _valid(shape: BaseGeometry) -> BaseGeometry:
    return shape if shape.is_valid else shapely.make_valid(shape)


def _polygons(shape: BaseGeometry) -> Iterator[Polygon]:
    """The polygons of a geometry that are more than a speck; lines and points are what a cut leaves on a border."""
    for part in shapely.get_parts(shape):
        if isinstance(part, Polygon):
            if part.area >= _SPECK:
                yield part
        elif hasattr(part, "geoms"):  # a collection inside a collection
            yield from _polygons(part)


def _without_holes(shape: Polygon) -> Iterator[Polygon]:
    """The polygon in parts that have no hole: cut upright through the middle of its first hole, again and again."""
    if not shape.interiors:
        yield shape
        return
    left, bottom, right, top = shape.bounds
    hole = shape.interiors[0].bounds
    middle = (hole[0] + hole[2]) / 2
    for half in (box(left, bottom, middle, top), box(middle, bottom, right, top)):
        for piece in _polygons(shapely.intersection(shape, half)):
            yield from _without_holes(piece)


def _ring_of(shape: Polygon) -> Ring:
    return np.asarray(shape.exterior.coords, np.float64)[:-1]
