"""What a robot reads off one object: how it lies, whether it lies right, and how far away it is.

After the paper on combined annotation of polygons and keypoints. Pure functions of arrays: a mask ``[H, W]``, keypoints
``[P, 3]`` of it, a depth map ``[H, W]`` in metres. Coordinates are pixels with continuous edges, x to the right and y
down; pixel (i, j) has its centre at (j + .5, i + .5).
"""

from dataclasses import dataclass
from math import atan2, cos, hypot, isfinite, pi, sin, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["ok", "all_same_side", "on_axis", "isotropic", "missing_kp"]
Mask = NDArray[np.bool_]
Depth = NDArray[np.float32] | NDArray[np.float64]
Vector = tuple[float, float]

PIXEL = 1 / 12  # px^2: the second moment of a pixel about its own centre
ELONGATED = 1.2  # length to width from which on a mask has an axis
NEAR = 0.05  # share of the width within which a keypoint lies on the axis
WINDOWS = (1, 3, 5)  # px: sides of the squares in which depth is looked for at a keypoint


# ---- how it lies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """The principal axis of a mask: the line of least inertia, along its greatest extent."""

    centre: Vector  # xy px
    theta: float  # radians in (-pi/2, pi/2], from x towards y: clockwise as one sees it
    major: float  # px^2: the larger eigenvalue of the second-order central moments
    minor: float  # px^2: the smaller one, at least 1/12

    @property
    def direction(self) -> Vector:
        """The unit vector along the axis, xy; it points to the right (straight down where it is upright)."""
        return cos(self.theta), sin(self.theta)

    @property
    def elongation(self) -> float:
        """Length to width: 1 of a square or a disc, w / h of a rectangle."""
        return sqrt(self.major / self.minor)

    @property
    def clarity(self) -> float:
        """How clear the axis is, 0..1: 0 of a square, a disc or a single pixel, near 1 of a line."""
        return (self.major - self.minor) / (self.major + self.minor)

    @property
    def width(self) -> float:
        """The side in px that a rectangle with these moments has across the axis."""
        return sqrt(12 * self.minor)

    def offset(self, x: float, y: float) -> float:
        """How far a point is from the axis, px: more than 0 on the right of one who looks along ``direction``."""
        along = self.direction
        return along[0] * (y - self.centre[1]) - along[1] * (x - self.centre[0])


def principal_axis(mask: Mask) -> Axis | None:
    """The axis of a mask ``[H, W]`` by its second-order central moments; None of an empty one.

    Each pixel is a unit square, whose own moment is 1/12: an upright rectangle has exactly mu20 = w^2/12. Where both
    moments are equal (see ``Axis.elongation``) theta is 0 and says nothing.
    """
    xx, yy, xy, centre = second_moments(mask)
    return None if centre is None else _axis(xx, yy, xy, centre)


def axis_of_points(points: NDArray[np.float64]) -> Axis | None:
    """The axis of points ``[P, 2]`` xy, each a pixel around it; None of none. One point alone has a clarity of 0."""
    if not len(points):
        return None
    centre = float(points[:, 0].mean()), float(points[:, 1].mean())
    x, y = points[:, 0] - centre[0], points[:, 1] - centre[1]
    return _axis(float((x * x).mean()) + PIXEL, float((y * y).mean()) + PIXEL, float((x * y).mean()), centre)


def _axis(xx: float, yy: float, xy: float, centre: Vector) -> Axis:
    root = hypot(xx - yy, 2 * xy)
    theta = 0.5 * atan2(2 * xy, xx - yy)
    theta += pi if theta <= -pi / 2 else 0  # rounding may leave an upright mask on either side
    return Axis(centre, theta, (xx + yy + root) / 2, max((xx + yy - root) / 2, PIXEL))


def second_moments(mask: Mask) -> tuple[float, float, float, Vector | None]:
    """mu20, mu02 and mu11 of a mask ``[H, W]`` over its area, px^2, and its centre xy; None and zeros of an empty one.

    ValueError where it is no mask.
    """
    if mask.ndim != 2 or mask.dtype.kind not in "bui":
        raise ValueError(f"a mask is {mask.dtype} {mask.shape}; expected bool [H, W]")
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0, 0.0, 0.0, None
    centre = float(columns.mean()) + 0.5, float(rows.mean()) + 0.5
    x, y = columns + 0.5 - centre[0], rows + 0.5 - centre[1]
    return float((x * x).mean()) + PIXEL, float((y * y).mean()) + PIXEL, float((x * y).mean()), centre


# ---- whether it lies right -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """How an object with three keypoints lies. Without "ok" there is no outer side, and no verdict."""

    status: Status
    axis: Axis | None  # None of an empty mask
    offsets: tuple[float, ...] = ()  # px: of each keypoint from the axis; NaN of one that is missing
    outer: int | None = None  # which keypoint alone is on its side of the axis
    direction: Vector | None = None  # unit vector across the axis, towards that side
    side: Literal["left", "right"] | None = None  # of one who looks along ``axis.direction``

    def is_correct(self, reference: Vector) -> bool | None:
        """Whether the outer side points along ``reference`` xy, by less than a right angle; None without an answer.

        ValueError where the reference is no direction.
        """
        length = hypot(*reference)
        if not length or not isfinite(length):
            raise ValueError(f"the reference direction is {reference}; expected x, y in pixels, not both 0")
        if self.direction is None:
            return None
        return self.direction[0] * reference[0] + self.direction[1] * reference[1] > 0


def placement(mask: Mask, keypoints: NDArray[np.floating], *, elongated: float = ELONGATED) -> Placement:
    """How an object lies, from its mask ``[H, W]`` and three of its keypoints ``[3, 3]`` = x, y, v.

    The keypoint whose side of the axis none of the others shares is the outer one. Statuses, the first that holds:

    * "missing_kp": a keypoint is not there (v = 0, or a value is not finite);
    * "isotropic": the mask is empty or less than ``elongated`` times as long as wide: it has no axis;
    * "on_axis": a keypoint is nearer to the axis than .05 of the width, so that its side is a matter of noise;
    * "all_same_side": no keypoint is alone;
    * "ok".
    """
    if keypoints.shape != (3, 3):
        raise ValueError(f"keypoints are {keypoints.shape}; expected three of x, y, v")
    axis = principal_axis(mask)
    known = [bool(v > 0) and isfinite(x) and isfinite(y) for x, y, v in keypoints.tolist()]
    offsets = tuple(
        axis.offset(x, y) if axis and is_known else float("nan")
        for (x, y, _), is_known in zip(keypoints.tolist(), known, strict=True)
    )
    if not all(known):
        return Placement("missing_kp", axis, offsets)
    if axis is None or axis.elongation < elongated:
        return Placement("isotropic", axis, offsets)
    if min(map(abs, offsets)) < NEAR * axis.width:
        return Placement("on_axis", axis, offsets)
    right = [s > 0 for s in offsets]
    if len(set(right)) == 1:
        return Placement("all_same_side", axis, offsets)
    outer = right.index(sum(right) == 1)
    along, sign = axis.direction, 1.0 if right[outer] else -1.0
    across = -sign * along[1], sign * along[0]
    return Placement("ok", axis, offsets, outer, across, "right" if right[outer] else "left")


def towards(mask: Mask, other: Mask) -> Vector | None:
    """The direction xy, px, from the centre of a mask to that of another (the engine of a part); None if one is empty.

    What ``Placement.is_correct`` takes where the camera may turn.
    """
    here, there = second_moments(mask)[3], second_moments(other)[3]
    return None if here is None or there is None else (there[0] - here[0], there[1] - here[1])


# ---- how far away it is ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskDepth:
    """The depth under a mask, metres."""

    mean: float
    median: float
    nearest: float
    farthest: float
    deviation: float  # the standard deviation over the pixels
    pixels: int  # how many had a depth

    @property
    def half_range(self) -> float:
        """Half of what lies between the nearest and the farthest pixel."""
        return (self.farthest - self.nearest) / 2


@dataclass(frozen=True)
class PointDepth:
    """The depth at a keypoint."""

    metres: float
    window: int  # px: the side of the square whose median it is; 1 is the pixel itself


def depth_of_mask(depth: Depth, mask: Mask, *, erosion: int = 0) -> MaskDepth | None:
    """The depth of an object by all pixels of its mask, both ``[H, W]``; None where no pixel of it has a depth.

    Depth that is not finite or not above 0 is no measurement. ``erosion`` takes so many pixels off the rim first,
    where a mask that is too large sees the background.
    """
    _check_depth(depth)
    if mask.shape != depth.shape:
        raise ValueError(f"a mask of {mask.shape} for a depth map of {depth.shape}; expected the same H, W")
    values = depth[eroded(mask.astype(np.bool_), erosion) & _measured(depth)].astype(np.float64)
    if not values.size:
        return None
    return MaskDepth(
        mean=float(values.mean()),
        median=float(np.median(values)),
        nearest=float(values.min()),
        farthest=float(values.max()),
        deviation=float(values.std()),
        pixels=values.size,
    )


def depth_at(depth: Depth, x: float, y: float) -> PointDepth | None:
    """The depth of the pixel that a point lies in; where it has none the median of 3x3, then of 5x5 around it.

    None where these have none either, or the point is not in the image ``[0, W) x [0, H)``.
    """
    _check_depth(depth)
    height, width = depth.shape
    if not (0 <= x < width and 0 <= y < height):  # also where one is NaN
        return None
    row, column = int(y), int(x)
    for side in WINDOWS:
        around = side // 2
        part = depth[max(row - around, 0) : row + around + 1, max(column - around, 0) : column + around + 1]
        values = part[_measured(part)]
        if values.size:
            return PointDepth(float(np.median(values.astype(np.float64))), side)
    return None


def eroded(mask: Mask, pixels: int = 1) -> Mask:
    """A mask ``[H, W]`` without its rim: what has a pixel beside it (or at its corner) within ``pixels`` that is none.

    The border of the image is no rim: an object that is cut by it goes on there.
    """
    if pixels < 0:
        raise ValueError(f"erosion: {pixels}; expected pixels, 0 or more")
    for _ in range(pixels):
        wide = np.pad(mask, 1, constant_values=True)
        tall = wide[:-2] & wide[1:-1] & wide[2:]
        mask = tall[:, :-2] & tall[:, 1:-1] & tall[:, 2:]
    return mask


def _measured(depth: Depth) -> Mask:
    with np.errstate(invalid="ignore"):
        found: Mask = np.isfinite(depth) & (depth > 0)
    return found


def _check_depth(depth: Depth) -> None:
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise ValueError(f"depth is {depth.dtype} {depth.shape}; expected metres as floats [H, W]")
