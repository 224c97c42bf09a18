"""Engine parts on a table: what lies where, and how the camera sees it, with the exact truth."""

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import affine_transform

from tasks.data.engine_parts_shapes import NAMES, OUTER, SHAPES
from tasks.data.tabletop import Colour, Laid, Setting, Surface, at_place, draw_setting, photo, sensed

WIDE = 24.0  # cm of the table that the image's width shows
EDGE = 0.3  # cm between a part and the border of the image
_MIX = (0.5, 0.25, 0.25)  # how often each kind comes
_TRIES = 60


@dataclass(frozen=True)
class Placed:
    """One part on the table, or on other parts."""

    kind: str
    x: float  # cm from the image's left edge, of its (0, 0)
    y: float  # cm from the top
    turn: float  # radians from x towards y, of its long axis
    colour: Colour
    is_correct: bool | None  # of a rocker arm: whether its outer side points along the reference direction
    lift: float = 0.0  # cm: how high that is which it lies on

    @property
    def outline(self) -> Any:
        """The shapely polygon that it covers, in cm of the image."""
        (x0, y0), (x1, y1), (x2, y2) = (
            at_place(u, v, self.x, self.y, self.turn) for u, v in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
        )
        return affine_transform(SHAPES[self.kind].outline, [x1 - x0, x2 - x0, y1 - y0, y2 - y0, x0, y0])

    @property
    def points(self) -> list[tuple[float, float]]:
        """Its keypoints, in cm of the image."""
        return [at_place(*point, self.x, self.y, self.turn) for point in SHAPES[self.kind].points.values()]


@dataclass(frozen=True)
class Scene:
    """Everything about a scene but noise; it has no resolution. A later part lies on top of the earlier ones."""

    parts: tuple[Placed, ...]
    setting: Setting

    def visible(self) -> list[Any]:
        """Of each part the shapely (multi)polygon that no other one hides, in cm."""
        found: list[Any] = []
        for part in self.parts:
            found = [*_hidden_by(part.outline, found), part.outline]
        return found


@dataclass(frozen=True)
class View:
    image: NDArray[np.uint8]  # [H, W, 3] RGB
    depth: NDArray[np.float32]  # [H, W] metres, NaN where the sensor sees nothing
    instances: NDArray[np.uint8]  # [H, W] 0 = table, else 1 + index into Scene.parts


def draw_scene(
    rng: np.random.Generator, height: float, counts: tuple[int, int], reference: float, spread: float
) -> Scene:
    """A scene of a table ``height`` cm high (in the image): at least one rocker arm, and what hides little of others.

    ``reference`` is the angle in radians at which the outer side of a correct arm points, by ``spread`` at most; a
    wrong one points the other way. They take turns.
    """
    count = int(rng.integers(counts[0], counts[1] + 1))
    kinds = ["rocker_arm", *(NAMES[i] for i in rng.choice(len(NAMES), count - 1, p=_MIX).tolist())]
    is_correct, parts, seen = bool(rng.random() < 0.5), list[Placed](), list[Any]()
    for kind in [kinds[i] for i in rng.permutation(count).tolist()]:
        for _ in range(_TRIES):
            part = _drawn(rng, kind, height, is_correct, reference, spread)
            outline = part.outline
            left, top, right, bottom = outline.bounds
            left_over = _hidden_by(outline, seen)
            is_inside = min(left, top) >= EDGE and right <= WIDE - EDGE and bottom <= height - EDGE
            if is_inside and all(_is_enough(one, p) for one, p in zip(left_over, parts, strict=True)):
                below = [p.lift + SHAPES[p.kind].tall for p in parts if p.outline.intersects(outline)]
                parts.append(_lifted(part, max(below, default=0.0)))
                seen = [*left_over, outline]
                is_correct ^= kind == "rocker_arm"
                break
    return Scene(tuple(parts), draw_setting(rng))


def _drawn(
    rng: np.random.Generator, kind: str, height: float, is_correct: bool, reference: float, spread: float
) -> Placed:
    shape = SHAPES[kind]
    x, y = float(rng.uniform(EDGE, WIDE - EDGE)), float(rng.uniform(EDGE, height - EDGE))
    base = shape.colours[int(rng.integers(len(shape.colours)))]
    red, green, blue = (float(np.clip(c * rng.uniform(0.85, 1.15), 0, 1)) for c in base)
    if kind != "rocker_arm":
        return Placed(kind, x, y, float(rng.uniform(-pi, pi)), (red, green, blue), None)
    outer = reference + (0.0 if is_correct else pi) + float(rng.uniform(-spread, spread))
    return Placed(kind, x, y, outer - OUTER, (red, green, blue), is_correct)


def _lifted(part: Placed, lift: float) -> Placed:
    return Placed(part.kind, part.x, part.y, part.turn, part.colour, part.is_correct, lift)


def _hidden_by(outline: Any, seen: list[Any]) -> list[Any]:
    return [one.difference(outline) if one.intersects(outline) else one for one in seen]


def _is_enough(visible: Any, part: Placed) -> bool:
    shape = SHAPES[part.kind]
    return bool(visible.area >= shape.least_visible * shape.outline.area)


def render(scene: Scene, size: tuple[int, int], rng: np.random.Generator, holes: float) -> View:
    """The view at H, W: colours are sampled at twice the resolution, truth at the centres of the pixels."""
    scale = WIDE / size[1]
    laid = [Laid(SHAPES[p.kind].part(p.colour), p.x, p.y, p.turn, p.lift) for p in scene.parts]
    fine = Surface.bare(scene.setting.colour, (2 * size[0], 2 * size[1]))
    exact = Surface.bare(scene.setting.colour, size)
    fine.put(laid, scale / 2)
    exact.put(laid, scale)
    image = photo(fine, scene.setting, scale / 2, rng)
    shines = [SHAPES[p.kind].shine for p in scene.parts]
    return View(image, sensed(scene.setting, exact, shines, scale, rng, holes), exact.instances)


def rings(visible: Any) -> list[list[float]] | None:
    """A (multi)polygon as parts x1, y1, x2, y2, ...; None where it has a hole, which polygons cannot say."""
    parts = [part for part in shapely.get_parts(visible).tolist() if part.geom_type == "Polygon"]
    if any(part.interiors for part in parts):
        return None
    return [shapely.get_coordinates(part.exterior)[:-1].ravel().tolist() for part in parts]
