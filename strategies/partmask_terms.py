"""The arithmetic of PartMask for one instance: its mask against its box and its keypoints.

Every term is a share in 0..1, 0 where all agree and where there is nothing to compare. What is measured in pixels is
divided by a length of the same instance, so that a larger picture of it scores alike.
"""

from dataclasses import dataclass, replace
from math import ceil, degrees, hypot, pi, sin
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.geometry import Rle, Size, Window, mask_box, mask_distance, patch_of_rle
from tasks.placement import Axis, Mask, axis_of_points, principal_axis

Array = NDArray[np.float64]
SEEN = 2  # v of a keypoint that is visible; one that is hidden (1) need not lie on the mask


@dataclass(frozen=True)
class Rules:
    """How the terms are computed; see the fields of the strategy."""

    empty: Literal["one", "zero"] = "one"
    slack: float = 0.02
    far: float = 0.1


@dataclass(frozen=True)
class Terms:
    """In what one instance contradicts itself, and where that can be seen."""

    box: float  # S_box: 1 - IoU of the box and the bounds of the mask
    out: float = 0.0  # S_out: share of the visible keypoints that are off the mask
    away: float = 0.0  # S_away: how far they are from it, 1 = ``far`` diagonals of the box and more
    axis: float = 0.0  # S_axis: how far the keypoints lie across the mask
    angle: float = 0.0  # degrees 0..90 between the axes of mask and keypoints; 0 where one has none
    points: int = 0  # visible keypoints
    bounds: Window | None = None  # of the mask; None where it has no pixel
    off: Array | None = None  # [n, 2] xy of the keypoints off the mask
    axes: tuple[Axis, ...] = ()  # of mask and keypoints

    @property
    def parts(self) -> float:
        """S_points: the mean of S_out and S_away."""
        return (self.out + self.away) / 2


def terms_of(mask: Rle, box: Array, keypoints: Array, size: Size, rules: Rules) -> Terms:
    """The terms of one instance: its mask, its box ``[4]`` xyxy, its keypoints ``[P, 3]`` x, y, v; all are finite.

    ``size`` is H, W of the image. Without a visible keypoint S_out, S_away and S_axis are 0. Without a pixel of the
    mask there is no axis, and S_box, S_out and S_away are 1 (``empty="one"``) or 0.
    """
    points = keypoints[keypoints[:, 2] >= SEEN, :2]
    patch, top, left = patch_of_rle(mask)
    inner = mask_box(patch) if patch.size else None
    if inner is None:
        bad = float(rules.empty == "one")
        off = bad if len(points) else 0.0
        return Terms(bad, off, off, points=len(points), off=points if off else None)
    bounds = inner[0] + left, inner[1] + top, inner[2] + left, inner[3] + top
    s_box = 1 - _overlap(in_pixels(box, size), bounds)
    if not len(points):
        return Terms(s_box, bounds=bounds)
    away = _distances(patch, points - (left, top)) / max(hypot(box[2] - box[0], box[3] - box[1]), 1.0)
    is_off = away > rules.slack
    s_axis, angle, axes = _across(patch, points - (left, top))
    moved = tuple(replace(axis, centre=(axis.centre[0] + left, axis.centre[1] + top)) for axis in axes)
    s_away = float(np.minimum(away / rules.far, 1.0).mean())
    return Terms(s_box, float(is_off.mean()), s_away, s_axis, angle, len(points), bounds, points[is_off], moved)


def in_pixels(box: Array, size: Size) -> Window:
    """The pixels of an image of H, W whose centres lie in a box, as a box; one pixel wide at least, before it is cut.

    A mask has no other bounds than whole pixels: so one that fills its box has an IoU of 1 with it.
    """
    x1, y1, x2, y2 = (ceil(edge - 0.5) for edge in box.tolist())
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    height, width = size
    return (
        float(min(max(x1, 0), width)),
        float(min(max(y1, 0), height)),
        float(min(max(x2, 0), width)),
        float(min(max(y2, 0), height)),
    )


def _overlap(a: Window, b: Window) -> float:
    """IoU of two boxes of which the second is not empty."""
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return both / (sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)) - both)


def _distances(patch: Mask, points: Array) -> Array:
    """``[n]`` px from each point to the nearest pixel of a mask that has one; 0 on it."""
    wide = np.pad(patch, 1)
    inside = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    rim = patch & ~inside  # of what is off the mask the nearest pixel is one of these
    return np.array([0.0 if _is_on(patch, x, y) else mask_distance(rim, x, y) for x, y in points.tolist()])


def _is_on(patch: Mask, x: float, y: float) -> bool:
    return 0 <= x < patch.shape[1] and 0 <= y < patch.shape[0] and bool(patch[int(y), int(x)])


def _across(patch: Mask, points: Array) -> tuple[float, float, tuple[Axis, ...]]:
    """S_axis, the angle in degrees, and the axes of a mask and of points on it."""
    mask, keys = principal_axis(patch), axis_of_points(points)
    assert mask is not None
    assert keys is not None
    apart = abs((mask.theta - keys.theta + pi / 2) % pi - pi / 2)
    clear = mask.clarity * keys.clarity
    return clear * sin(apart) ** 2, degrees(apart) if clear > 1e-9 else 0.0, (mask, keys)
