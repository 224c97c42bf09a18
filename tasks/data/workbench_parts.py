"""The 13 parts of RoboCup@Work as shapes seen from above: outline, height and material, in centimetres.

Names are those of the rule book, sizes are near the real parts' (theirs are given in no machine-readable form). Every
part lies with its long axis along u; v is across, both from the middle of its outline.
"""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.data.tabletop import ALUMINIUM, BLACK, BLUE, BRASS, IRON, PLASTIC, STEEL, Array, Colour, Look, Part, painted

# ---- building blocks -------------------------------------------------------------------------------------------------


def _lying(u: Array, v: Array, start: float, end: float, radius: float) -> Array:
    """A round bar from start to end along u, on the bench: its height is radius + sqrt(radius² - v²)."""
    inside = (u >= start) & (u <= end) & (np.abs(v) <= radius)
    return np.where(inside, radius + np.sqrt(np.maximum(radius**2 - v**2, 0)), 0)


def _hexagon(u: Array, v: Array, flat: float) -> NDArray[np.bool_]:
    """Inside a hexagon with this distance between opposite sides."""
    sides = [np.abs(u * np.cos(a) + v * np.sin(a)) for a in (0, np.pi / 3, 2 * np.pi / 3)]
    inside: NDArray[np.bool_] = np.max(sides, axis=0) <= flat / 2
    return inside


def _profile(side: float, grooves: tuple[float, ...], colour: Colour) -> Callable[[Array, Array], Look]:
    """A square extruded bar of 10 cm with dark grooves along it."""

    def look(u: Array, v: Array) -> Look:
        inside = (np.abs(u) <= 5) & (np.abs(v) <= side / 2)
        groove = np.any([np.abs(v - at) <= 0.22 for at in grooves], axis=0)
        height = np.where(inside, np.where(groove, side - 0.5, side), 0)
        return painted(height, colour, (groove, 0.45), (np.abs(u) > 4.85, 1.25))

    return look


def _nut(flat: float, hole: float, tall: float) -> Callable[[Array, Array], Look]:
    def look(u: Array, v: Array) -> Look:
        r = np.hypot(u, v)
        inside = _hexagon(u, v, flat) & (r >= hole / 2)
        return painted(np.where(inside, tall, 0), STEEL, (r <= hole / 2 + 0.18, 0.6))

    return look


def _ring(outer: float, inner: float, tall: float, colour: Colour, race: bool = False) -> Callable[..., Look]:
    """A ring that stands on its face; ``race``: a dark groove between two rings, as in a bearing."""

    def look(u: Array, v: Array) -> Look:
        r = np.hypot(u, v)
        inside = (r <= outer / 2) & (r >= inner / 2)
        groove = race & (np.abs(r - (outer + inner) / 4) <= 0.28)
        return painted(np.where(inside, np.where(groove, tall - 0.3, tall), 0), colour, (groove, 0.4))

    return look


def _bolt(u: Array, v: Array) -> Look:
    """A hexagonal head at the right and a threaded shaft; M20, 10 cm."""
    head = (u > 3.6) & (u <= 5) & (np.abs(v) <= 1.5)
    shaft = _lying(u, v, -5, 3.6, 1.0)
    return painted(np.where(head, 2.6, shaft), STEEL, ((u < 1.0) & (np.mod(u, 0.5) < 0.2), 0.6), (head, 1.1))


def _axis(u: Array, v: Array) -> Look:
    """A turned axis with two thinner ends."""
    height = np.maximum(_lying(u, v, -5, 5, 0.7), _lying(u, v, -2.2, 2.2, 1.2))
    return painted(height, ALUMINIUM, ((np.abs(np.abs(u) - 2.2) < 0.12, 0.6)))


def _bearing_box(u: Array, v: Array) -> Look:
    """A cast block with a bore and two feet."""
    block = (np.abs(u) <= 2.8) & (np.abs(v) <= 2.3) & ~((np.abs(u) > 2.0) & (np.abs(v) > 1.5))
    bore = np.hypot(u, v) < 1.35
    foot = np.abs(u) > 2.0
    return painted(np.where(block & ~bore, np.where(foot, 1.4, 3.0), 0), IRON, (foot, 1.3))


def _motor(u: Array, v: Array) -> Look:
    """A round body with a brass gear box and a thin shaft at the right."""
    body, gear = _lying(u, v, -4.2, 1.2, 1.8), _lying(u, v, 1.2, 2.8, 1.5)
    height = np.max([body, gear, np.where(np.abs(v) <= 0.3, _lying(u, v, 2.8, 4.4, 0.3) + 1.2, 0) * (u > 2.8)], axis=0)
    height = np.where((u > 2.8) & (_lying(u, v, 2.8, 4.4, 0.3) == 0), 0, height)
    look = painted(height, BLUE, (np.abs(u + 3.9) < 0.2, 0.5))
    look.albedo[(u > 1.2) & (u <= 2.8)] = BRASS
    look.albedo[u > 2.8] = STEEL
    return look


PARTS: Mapping[str, Part] = {
    "f20_20_b": Part(_profile(2, (0.0,), BLACK), 5.2, 0.3),
    "f20_20_g": Part(_profile(2, (0.0,), ALUMINIUM), 5.2, 0.3),
    "s40_40_b": Part(_profile(4, (-1.0, 1.0), BLACK), 5.5, 0.3),
    "s40_40_g": Part(_profile(4, (-1.0, 1.0), ALUMINIUM), 5.5, 0.3),
    "m20_100": Part(_bolt, 5.3, 0.5),
    "m20": Part(_nut(3.0, 2.0, 1.6), 1.8, 0.5),
    "m30": Part(_nut(4.6, 3.0, 2.4), 2.7, 0.5),
    "r20": Part(_ring(3.0, 2.0, 4.0, PLASTIC), 1.6, 0.1),
    "bearing_box": Part(_bearing_box, 3.5, 0.2),
    "bearing": Part(_ring(4.7, 2.0, 1.4, STEEL, race=True), 2.4, 0.6),
    "axis": Part(_axis, 5.1, 0.6),
    "distance_tube": Part(_ring(3.2, 2.3, 1.0, ALUMINIUM), 1.7, 0.4),
    "motor": Part(_motor, 4.6, 0.3),
}
NAMES = tuple(PARTS)


@cache
def centre_of_gravity(name: str) -> tuple[float, float]:
    """(u, v) in cm of a part of one material: the mean of its outline, weighted by its height."""
    reach = PARTS[name].reach
    at = np.arange(-reach, reach, 0.02) + 0.01
    u, v = np.meshgrid(at, at)
    height = PARTS[name].look(u, v).height
    return float((height * u).sum() / height.sum()), float((height * v).sum() / height.sum())
