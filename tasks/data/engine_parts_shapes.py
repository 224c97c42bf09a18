"""Parts of an engine as shapes seen from above: outline, height, colours and named keypoints, in centimetres.

The rocker arm is bent: its pivot lies on one side of its long axis, its two ends on the other. So the pivot is the
keypoint that is alone on its side, and the outer side of the arm is the pivot's: -v.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Point, Polygon

from tasks.data.tabletop import BLACK, BRASS, IRON, STEEL, Array, Colour, Look, Part, painted

OUTER = -pi / 2  # radians from u towards v: where the outer side of a rocker arm points
_ROUND = 6  # sides of a quarter of a circle
_TIP, _PIVOT, _CUP = (-3.9, 0.95), (0.0, -1.05), (3.7, 0.95)


@dataclass(frozen=True)
class Shape:
    """A kind of part."""

    outline: Any  # a shapely polygon of (u, v), perhaps with holes
    paint: Callable[[Array, Array, Colour], Look]  # heights and colours of points, in the outline or not
    tall: float  # cm: its highest point
    colours: tuple[Colour, ...]  # of which it has one
    shine: float
    least_visible: float  # share of its outline that other parts may not hide
    points: Mapping[str, tuple[float, float]]  # the keypoints by name

    @property
    def reach(self) -> float:
        """Radius of a circle around (0, 0) that holds it, cm."""
        corners = shapely.get_coordinates(self.outline)
        return float(np.hypot(*corners.T).max()) + 0.01

    def part(self, colour: Colour) -> Part:
        """One of it in a colour."""

        def look(u: Array, v: Array) -> Look:
            found = self.paint(u, v, colour)
            inside = shapely.contains_xy(self.outline, u, v)
            return Look(np.where(inside, found.height, 0), found.albedo)

        return Part(look, self.reach, self.shine)


def _near(u: Array, v: Array, point: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.hypot(u - point[0], v - point[1]) <= radius
    return near


def _rocker_arm(u: Array, v: Array, colour: Colour) -> Look:
    """A bright pad at the tip, a boss with a dark bore at the pivot, a dark cup at the other end."""
    boss, cup, pad = _near(u, v, _PIVOT, 1.3), _near(u, v, _CUP, 1.05), u < _TIP[0] + 0.75
    height = np.where(boss, 2.4, np.where(cup | pad, 1.3, 1.7))
    bore, hollow = _near(u, v, _PIVOT, 0.5), _near(u, v, _CUP, 0.55)
    return painted(height, colour, (boss, 1.25), (pad, 1.6), (cup, 0.85), (bore | hollow, 0.3))


def _gear(u: Array, v: Array, colour: Colour) -> Look:
    """Teeth around a turned groove and a hub."""
    r = np.hypot(u, v)
    groove = (r > 1.0) & (r < 1.45)
    return painted(np.where(groove, 0.6, 0.9), colour, (groove, 0.7), (r > 1.75, 0.9))


def _bolt(u: Array, v: Array, colour: Colour) -> Look:
    """A head at the right, a threaded shaft."""
    head = u > 2.0
    return painted(np.where(head, 1.6, 0.8), colour, (head, 1.15), (~head & (np.mod(u, 0.4) < 0.15), 0.65))


def _arm_outline() -> Any:
    limbs = LineString([_TIP, _PIVOT, _CUP]).buffer(0.8, quad_segs=_ROUND)
    pad = shapely.box(_TIP[0] - 0.75, _TIP[1] - 1.05, _TIP[0] + 0.75, _TIP[1] + 1.05)
    boss, cup = Point(_PIVOT).buffer(1.3, quad_segs=_ROUND), Point(_CUP).buffer(1.05, quad_segs=_ROUND)
    return shapely.union_all([limbs, pad, boss, cup])


def _gear_outline(teeth: int = 12) -> Any:
    rim = []
    for tooth in range(teeth):
        for share, radius in ((-0.3, 1.75), (-0.18, 2.15), (0.18, 2.15), (0.3, 1.75)):
            angle = 2 * pi * (tooth + share) / teeth
            rim.append((radius * cos(angle), radius * sin(angle)))
    return Polygon(rim).difference(Point(0, 0).buffer(0.65, quad_segs=_ROUND))


def _bolt_outline() -> Any:
    return shapely.union_all([shapely.box(-3.0, -0.45, 2.1, 0.45), shapely.box(2.0, -0.9, 3.0, 0.9)])


SHAPES: Mapping[str, Shape] = {
    "rocker_arm": Shape(
        _arm_outline(), _rocker_arm, 2.4, ((0.36, 0.36, 0.39), IRON), 0.2, 0.94,
        {"tip": _TIP, "pivot": _PIVOT, "cup": _CUP},
    ),
    "gear": Shape(_gear_outline(), _gear, 0.9, (BRASS, STEEL), 0.4, 0.5, {}),
    "bolt": Shape(_bolt_outline(), _bolt, 1.6, (STEEL, BLACK), 0.5, 0.5, {"head": (2.5, 0.0), "end": (-2.6, 0.0)}),
}  # fmt: skip
NAMES = tuple(SHAPES)
for _shape in SHAPES.values():
    shapely.prepare(_shape.outline)
