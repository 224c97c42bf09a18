"""An image with all its labels under one transform: nothing changes its form, nothing loses its name.

Objects are known by their id, never by their place in a list. Polygons stay polygons, run-length masks stay run-length
masks, and the number of keypoints of an object never changes. Source: Sharma et al. (MultiLabel), who send polygons
through a keypoint transform; the differences are measured in tests/bench.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.geometry import Rle
from tasks.outlines import Box, Ring, clip_rings, corners_of, move_rle, points_box, ring_area
from tasks.resampling import Resampling
from tasks.transform import Transform

IGNORE = 255  # of semantic maps, where nothing is known

Reason = Literal["outside", "too small", "hardly visible"]


@dataclass(frozen=True, eq=False)
class JointObject:
    """One labeled object with all the forms that it was labeled in."""

    id: int | str
    box: Box  # xyxy
    polygons: tuple[Ring, ...] = ()  # parts [n, 2]
    rle: Rle | None = None  # instead of polygons
    keypoints: NDArray[np.float64] | None = None  # [P, 3] x, y, v
    flip_pairs: tuple[tuple[int, int], ...] = ()  # keypoints that change places in a mirrored image
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
    for one in objects:
        moved, visible = _moved(one, transform, resampling)
        reason = None if moved is None else _reason(moved, visible, limits)
        if moved is None:
            removed.append(Removed(one.id, "too small" if visible > 0 else "outside", visible))
        elif reason == "hardly visible" and limits.hidden == "crowd":
            kept.append(replace(moved, crowd=True))
        elif reason is not None:
            removed.append(Removed(one.id, reason, visible))
        else:
            kept.append(moved)
    return tuple(kept), removed


def _reason(moved: JointObject, visible: float, limits: Limits) -> Reason | None:
    if moved.area < limits.area:
        return "too small"
    return "hardly visible" if visible < limits.visible and not moved.crowd else None


def _moved(one: JointObject, transform: Transform, resampling: Resampling) -> tuple[JointObject | None, float]:
    """The object with its box and area recomputed from what remains, and the share that remains; None = nothing."""
    points = None if one.keypoints is None else move_keypoints(one.keypoints, transform, one.flip_pairs)
    if one.rle is not None:
        rle, pixels, tight, visible = move_rle(one.rle, transform, resampling)
        found = None if tight is None else replace(one, box=tight, rle=rle, keypoints=points, area=float(pixels))
        return found, visible
    rings = one.polygons or (corners_of(one.box),)
    whole = tuple(transform.points(ring) for ring in rings)
    if not one.polygons:  # a box alone: the hull of its corners, cut at the border
        whole = (corners_of(points_box(whole[0])),)
    parts, visible = clip_rings(whole, transform.target)
    if not parts:
        return None, visible
    found = replace(
        one,
        box=points_box(np.concatenate(parts)),
        polygons=parts if one.polygons else (),
        keypoints=points,
        area=sum(ring_area(part) for part in parts),
        is_loose=one.is_loose or not (one.polygons or transform.is_upright),
    )
    return found, visible


def move_keypoints(
    keypoints: NDArray[np.float64], transform: Transform, flip_pairs: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """Keypoints ``[P, 3]`` in the target: the same number; those that leave the image become (0, 0, 0).

    Inside is 0 <= x < W and 0 <= y < H; where no pixel is lost, a point on the far border stays too, so that a mirror
    loses none. In a mirrored image the points of ``flip_pairs`` change places.
    """
    height, width = transform.target
    xy, v = transform.points(keypoints[:, :2]), keypoints[:, 2]
    below = xy <= (width, height) if transform.keeps_all else xy < (width, height)
    inside = ((xy >= 0) & below).all(1)
    moved = np.concatenate([xy, v[:, None]], 1) * (inside & (v > 0))[:, None]
    if transform.mirrors:
        order = np.arange(len(moved))
        for left, right in flip_pairs:
            order[left], order[right] = right, left
        moved = moved[order]
    result: NDArray[np.float64] = moved + 0.0  # no minus zeros
    return result
