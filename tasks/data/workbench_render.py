"""A work-bench scene: what lies where, and how the camera sees it, with the exact truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin

import numpy as np
from numpy.typing import NDArray

from tasks.data.tabletop import Laid, Setting, Surface, at_place, draw_setting, photo, sensed
from tasks.data.workbench_parts import NAMES, PARTS, centre_of_gravity

WIDE = 51.2  # cm of the bench that the image's width shows: 0.2 cm a pixel at 256 pixels
FLOOR = 15.0  # cm below it


@dataclass(frozen=True)
class Placed:
    """One part on the bench."""

    label: int  # index into NAMES
    x: float  # cm from the image's left edge, of the middle of its outline
    y: float  # cm from the top
    turn: float  # radians from x towards y, of its long axis


@dataclass(frozen=True)
class Bench:
    """Everything about a scene but noise; it has no resolution."""

    parts: tuple[Placed, ...]
    edge: tuple[float, float, float] | None  # a, b, c: the bench ends where a x + b y > c
    setting: Setting


@dataclass(frozen=True)
class View:
    image: NDArray[np.uint8]  # [H, W, 3] RGB
    depth: NDArray[np.float32]  # [H, W] metres, NaN where the sensor sees nothing
    instances: NDArray[np.uint8]  # [H, W] 0 = bench, else 1 + index into Bench.parts
    points: tuple[tuple[float, float], ...]  # px: the pickup point of each part


def draw_bench(rng: np.random.Generator, height: float, counts: tuple[int, int], kinds: Sequence[str] = NAMES) -> Bench:
    """A scene of a bench ``height`` cm high (in the image): parts of different ``kinds`` that do not touch."""
    edge = None
    if rng.random() < 0.3:  # the border of the bench, near a side of the image
        angle = float(rng.uniform(0, 2 * pi))
        a, b = cos(angle), sin(angle)
        far = abs(a) * WIDE / 2 + abs(b) * height / 2
        edge = a, b, a * WIDE / 2 + b * height / 2 + far * float(rng.uniform(0.55, 0.85))
    labels = [NAMES.index(kinds[i]) for i in rng.permutation(len(kinds))]
    count = int(rng.integers(counts[0], counts[1] + 1))
    parts: list[Placed] = []
    for label in labels:  # more of them than are wanted: some may find no place
        if len(parts) == count:
            break
        reach = PARTS[NAMES[label]].reach
        for _ in range(60):
            x, y = float(rng.uniform(reach, WIDE - reach)), float(rng.uniform(reach, height - reach))
            on_bench = edge is None or edge[0] * x + edge[1] * y < edge[2] - reach
            if on_bench and all(hypot(x - p.x, y - p.y) > reach + PARTS[NAMES[p.label]].reach + 0.3 for p in parts):
                parts.append(Placed(label, x, y, float(rng.uniform(-pi, pi))))
                break
    return Bench(tuple(parts), edge, draw_setting(rng))


def render(bench: Bench, size: tuple[int, int], rng: np.random.Generator, holes: float) -> View:
    """The view at H, W: colours are sampled at twice the resolution, truth at the centres of the pixels.

    ``holes`` multiplies how much of the depth is missing: 0 = nothing.
    """
    scale = WIDE / size[1]
    fine, exact = _surface(bench, (2 * size[0], 2 * size[1]), scale / 2), _surface(bench, size, scale)
    image = photo(fine, bench.setting, scale / 2, rng)
    points = []
    for part in bench.parts:
        x, y = at_place(*centre_of_gravity(NAMES[part.label]), part.x, part.y, part.turn)
        points.append((x / scale, y / scale))
    shines = [PARTS[NAMES[part.label]].shine for part in bench.parts]
    return View(image, sensed(bench.setting, exact, shines, scale, rng, holes), exact.instances, tuple(points))


def _surface(bench: Bench, size: tuple[int, int], scale: float) -> Surface:
    """At H, W; -FLOOR high beyond the edge of the bench."""
    found = Surface.bare(bench.setting.colour, size)
    if bench.edge is not None:
        y, x = ((np.arange(n) + 0.5) * scale for n in size)
        a, b, c = bench.edge
        gone = a * x + b * y[:, None] > c
        found.height[gone], found.albedo[gone] = -FLOOR, (0.22, 0.21, 0.20)
    found.put([Laid(PARTS[NAMES[part.label]], part.x, part.y, part.turn) for part in bench.parts], scale)
    return found
