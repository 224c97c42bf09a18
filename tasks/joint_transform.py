"""An image with all its labels under one transform: nothing changes its form, nothing loses its name.

Objects are known by their id, never by their place in a list. Polygons stay polygons, run-length masks stay run-length
masks, and the number of keypoints of an object never changes. Source: Sharma et al. (MultiLabel), who send polygons
through a keypoint transform; the differences are measured in tests/bench.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.geometry import Rle
from tasks.outlines import Box, Ring, Shown, move_boxes, move_rings, move_rle
from tasks.resampling import Resampling
from tasks.transform import Transform

IGNORE = 255  # of semantic maps, where nothing is known

FlipPairs = tuple[tuple[int, int], ...]  # keypoints that change places in a mirrored image
Reason = Literal["outside", "too small", "hardly visible"]


@dataclass(frozen=True, eq=False)
class JointObject:
    """One labeled object with all the forms that it was labeled in."""

    id: int | str
    box: Box  # xyxy
    polygons: tuple[Ring, ...] = ()  # parts [n, 2]
    rle: Rle | None = None  # instead of polygons
    keypoints: NDArray[np.float64] | None = None  # [P, 3] x, y, v
    flip_pairs: FlipPairs = ()
    crowd: bool = False
    area: float = 0.0  # px² of the outline; of the box where there is none
    is_loose: bool = False  # the box is the hull of a turned box, larger than what it holds


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its labels, in numpy."""

    image: NDArray[np.uint8]  # [H, W, 3]
    objects: tuple[JointObject, ...] = ()
    semantic: NDArray[Any] | None = None  # [H, W] class ids
    depth: NDArray[np.float32] | None = None  # [H, W] metres, NaN = no label


@dataclass(frozen=True)
class Removed:
    """An object that is not in the changed image, and why."""

    id: int | str
    reason: Reason
    visible: float  # share of it that is still in the picture


@dataclass(frozen=True)
class Limits:
    """What must be left of an object."""

    area: float = 1.0  # px²
    visible: float = 0.1  # share of the object; crowds are kept whatever is left
    hidden: Literal["remove", "crowd"] = "remove"  # crowd: what is hardly visible is ignored, neither object nor ground


def transform_scene(scene: Scene, transform: Transform, limits: Limits) -> tuple[Scene, list[Removed]]:
    """The changed scene and the objects that it lost.

    The image is resampled once (linear; mirrors and quarter turns bit for bit), maps take the nearest pixel: semantic
    255 and depth NaN where nothing is known. Depth is divided by the transform's ``depth_scale``.
    """
    resampling = Resampling(transform)
    kept, removed = transform_objects(scene.objects, transform, resampling, limits)
    depth = None if scene.depth is None else resampling.nearest(scene.depth, np.nan) / np.float32(transform.depth_scale)
    changed = Scene(
        image=resampling.linear(scene.image),
        objects=kept,
        semantic=None if scene.semantic is None else resampling.nearest(scene.semantic, IGNORE),
        depth=depth,
    )
    return changed, removed


def transform_objects(
    objects: Sequence[JointObject], transform: Transform, resampling: Resampling, limits: Limits
) -> tuple[tuple[JointObject, ...], list[Removed]]:
    """The objects in the target image, in their order, and those that are not in it any more."""
    kept: list[JointObject] = []
    removed: list[Removed] = []
    all_points = _moved_keypoints([one.keypoints for one in objects], [one.flip_pairs for one in objects], transform)
    for one, shown, points in zip(objects, _shown(objects, transform, resampling), all_points, strict=True):
        reason = _reason(one, shown, limits)
        is_ignored = reason == "hardly visible" and limits.hidden == "crowd"
        if shown.box is None or not (reason is None or is_ignored):
            removed.append(Removed(one.id, reason or "outside", shown.visible))
            continue
        kept.append(
            JointObject(
                id=one.id,
                box=shown.box,
                polygons=shown.parts,
                rle=shown.rle,
                keypoints=points,
                flip_pairs=one.flip_pairs,
                crowd=one.crowd or is_ignored,
                area=shown.area,
                is_loose=one.is_loose or not (one.polygons or one.rle or transform.is_upright),
            )
        )
    return tuple(kept), removed


def _shown(objects: Sequence[JointObject], transform: Transform, resampling: Resampling) -> Iterator[Shown]:
    """What is left of each object; the rings of all of them move together, and so do the boxes."""
    masked = [one.rle is not None for one in objects]
    rings = iter(
        move_rings([o.polygons for o, m in zip(objects, masked, strict=True) if o.polygons and not m], transform)
    )
    boxes = iter(move_boxes([o.box for o, m in zip(objects, masked, strict=True) if not (o.polygons or m)], transform))
    for one in objects:
        if one.rle is not None:
            yield move_rle(one.rle, transform, resampling)
        else:
            yield next(rings if one.polygons else boxes)


def _reason(one: JointObject, shown: Shown, limits: Limits) -> Reason | None:
    if shown.box is None:
        return "too small" if shown.visible > 0 else "outside"
    if shown.area < limits.area:
        return "too small"
    return "hardly visible" if shown.visible < limits.visible and not one.crowd else None


def move_keypoints(keypoints: NDArray[np.float64], transform: Transform, flip_pairs: FlipPairs) -> NDArray[np.float64]:
    """Keypoints ``[P, 3]`` in the target: the same number; those that leave the image become (0, 0, 0).

    Inside is 0 <= x < W and 0 <= y < H; where no pixel is lost, a point on the far border stays too, so that a mirror
    loses none. In a mirrored image the points of ``flip_pairs`` change places.
    """
    found = _moved_keypoints([keypoints], [flip_pairs], transform)[0]
    assert found is not None
    return found


def _moved_keypoints(
    keypoints: Sequence[NDArray[np.float64] | None], flip_pairs: Sequence[FlipPairs], transform: Transform
) -> list[NDArray[np.float64] | None]:
    """The keypoints of many objects, moved together."""
    given = [one for one in keypoints if one is not None]
    if not given:
        return [None] * len(keypoints)
    before, border = np.concatenate(given), np.array(transform.target[::-1], np.float64)
    moved = np.empty(before.shape, np.float64)
    moved[:, :2], moved[:, 2] = transform.points(before[:, :2]), before[:, 2]
    xy = moved[:, :2]
    below = xy <= border if transform.keeps_all else xy < border
    moved *= (((xy >= 0) & below).all(1) & (before[:, 2] > 0))[:, None]
    moved += 0.0  # no minus zeros
    mirrors, end = transform.mirrors, 0
    found: list[NDArray[np.float64] | None] = []
    for one, pairs in zip(keypoints, flip_pairs, strict=True):
        if one is None:
            found.append(None)
            continue
        start, end = end, end + len(one)
        found.append(moved[start:end][_mirrored(len(one), pairs)] if mirrors and pairs else moved[start:end])
    return found


@lru_cache(maxsize=1024)
def _mirrored(count: int, flip_pairs: FlipPairs) -> NDArray[np.intp]:
    """The order of keypoints in the mirrored image."""
    order = np.arange(count)
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    return order
