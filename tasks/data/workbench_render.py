"""A work-bench scene as the camera sees it: colours, depth with the sensor's holes, and the exact truth.

The camera looks straight down from half a metre, so that a pixel is the same length everywhere on the bench.
"""

from dataclasses import dataclass
from math import cos, hypot, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.data.workbench_parts import NAMES, PARTS, Array, Colour, centre_of_gravity

WIDE = 51.2  # cm of the bench that the image's width shows: 0.2 cm a pixel at 256 pixels
CAMERA = 50.0  # cm above the bench
FLOOR = 15.0  # cm below it
BASELINE = 2.6  # cm between the projector and the camera
BENCHES: tuple[Colour, ...] = (  # white, grey, blue, wood, green
    (0.86, 0.86, 0.84), (0.50, 0.51, 0.52), (0.30, 0.38, 0.52), (0.66, 0.50, 0.33), (0.34, 0.46, 0.36),
)  # fmt: skip


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
    colour: Colour
    edge: tuple[float, float, float] | None  # a, b, c: the bench ends where a x + b y > c
    tilt: tuple[float, float]  # cm of height for each cm of x and of y
    sun: tuple[float, float]  # shadow in cm for each cm of height
    light: tuple[float, float, float]  # gain, and its slope along x and y over the image


@dataclass(frozen=True)
class View:
    image: NDArray[np.uint8]  # [H, W, 3] RGB
    depth: NDArray[np.float32]  # [H, W] metres, NaN where the sensor sees nothing
    instances: NDArray[np.uint8]  # [H, W] 0 = bench, else 1 + index into Bench.parts
    points: tuple[tuple[float, float], ...]  # px: the pickup point of each part


def draw_bench(rng: np.random.Generator, height: float, counts: tuple[int, int]) -> Bench:
    """A scene of a bench ``height`` cm high (in the image): parts of different kinds that do not touch."""
    edge = None
    if rng.random() < 0.3:  # the border of the bench, near a side of the image
        angle = float(rng.uniform(0, 2 * pi))
        a, b = cos(angle), sin(angle)
        far = abs(a) * WIDE / 2 + abs(b) * height / 2
        edge = a, b, a * WIDE / 2 + b * height / 2 + far * float(rng.uniform(0.55, 0.85))
    kinds, count = rng.permutation(len(NAMES)).tolist(), int(rng.integers(counts[0], counts[1] + 1))
    parts: list[Placed] = []
    for label in kinds:  # more of them than are wanted: some may find no place
        if len(parts) == count:
            break
        reach = PARTS[NAMES[label]].reach
        for _ in range(60):
            x, y = float(rng.uniform(reach, WIDE - reach)), float(rng.uniform(reach, height - reach))
            on_bench = edge is None or edge[0] * x + edge[1] * y < edge[2] - reach
            if on_bench and all(hypot(x - p.x, y - p.y) > reach + PARTS[NAMES[p.label]].reach + 0.3 for p in parts):
                parts.append(Placed(label, x, y, float(rng.uniform(-pi, pi))))
                break
    base = BENCHES[int(rng.integers(len(BENCHES)))]
    red, green, blue = (float(np.clip(c * rng.uniform(0.9, 1.1), 0, 1)) for c in base)
    angle, length = float(rng.uniform(0, 2 * pi)), float(rng.uniform(0.2, 0.8))
    tilt, slope = rng.uniform(-0.03, 0.03, 2).tolist(), rng.uniform(-0.25, 0.25, 2).tolist()
    light = float(rng.uniform(0.65, 1.1)), slope[0], slope[1]
    sun = length * cos(angle), length * sin(angle)
    return Bench(tuple(parts), (red, green, blue), edge, (tilt[0], tilt[1]), sun, light)


def render(bench: Bench, size: tuple[int, int], rng: np.random.Generator, holes: float) -> View:
    """The view at H, W: colours are sampled at twice the resolution, truth at the centres of the pixels.

    ``holes`` multiplies how much of the depth is missing: 0 = nothing.
    """
    scale = WIDE / size[1]
    fine = _Surface.of(bench, (2 * size[0], 2 * size[1]), scale / 2)
    exact = _Surface.of(bench, size, scale)
    colours = np.asarray(cv2.resize(_lit(bench, fine, scale / 2, rng), size[::-1], interpolation=cv2.INTER_AREA))
    image = colours + rng.normal(0, 0.012, colours.shape)
    points = []
    for part in bench.parts:
        u, v = centre_of_gravity(NAMES[part.label])
        x, y = part.x + u * cos(part.turn) - v * sin(part.turn), part.y + u * sin(part.turn) + v * cos(part.turn)
        points.append((x / scale, y / scale))
    pixels = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return View(pixels, _sensed(bench, exact, scale, rng, holes), exact.instances, tuple(points))


@dataclass(frozen=True)
class _Surface:
    height: Array  # [H, W] cm above the bench; -FLOOR beyond its edge
    albedo: Array  # [H, W, 3]
    instances: NDArray[np.uint8]

    @staticmethod
    def of(bench: Bench, size: tuple[int, int], scale: float) -> "_Surface":
        y, x = ((np.arange(n) + 0.5) * scale for n in size)
        height, instances = np.zeros(size), np.zeros(size, np.uint8)
        albedo = np.broadcast_to(np.asarray(bench.colour), (*size, 3)).copy()
        if bench.edge is not None:
            a, b, c = bench.edge
            gone = a * x + b * y[:, None] > c
            height[gone], albedo[gone] = -FLOOR, (0.22, 0.21, 0.20)
        for index, part in enumerate(bench.parts):
            kind = PARTS[NAMES[part.label]]
            rows = slice(*np.searchsorted(y, (part.y - kind.reach, part.y + kind.reach)))
            columns = slice(*np.searchsorted(x, (part.x - kind.reach, part.x + kind.reach)))
            dx, dy = x[columns] - part.x, y[rows, None] - part.y
            u, v = dx * cos(part.turn) + dy * sin(part.turn), dy * cos(part.turn) - dx * sin(part.turn)
            look = kind.look(u, v)
            there = look.height > 0
            height[rows, columns][there] = look.height[there]
            albedo[rows, columns][there] = look.albedo[there]
            instances[rows, columns][there] = index + 1
        return _Surface(height, albedo, instances)


def _lit(bench: Bench, surface: _Surface, scale: float, rng: np.random.Generator) -> Array:
    """Colours 0..1 ``[H, W, 3]``: shading by slope, soft shadows, uneven light, the grain of the bench."""
    size = surface.height.shape[0], surface.height.shape[1]
    dy, dx = np.gradient(np.maximum(surface.height, 0), scale)
    shade = 1 - 0.35 * np.tanh(dx * bench.sun[0] + dy * bench.sun[1])
    shadow: Array = np.zeros(size)
    for share in (0.25, 0.5, 0.75, 1.0):  # what stands so high throws its shadow so far
        far = share * 3 / scale
        shift = np.array([[1, 0, far * bench.sun[0]], [0, 1, far * bench.sun[1]]])
        moved = np.asarray(cv2.warpAffine(surface.height, shift, (size[1], size[0])))
        shadow = np.maximum(shadow, np.clip(moved - surface.height - 3 * share + 0.5, 0, 1))
    shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 0.25 / scale), np.float64)
    ramp = np.linspace(-0.5, 0.5, size[1]) * bench.light[1] + np.linspace(-0.5, 0.5, size[0])[:, None] * bench.light[2]
    grain = 1 + 0.03 * _clouds(rng, size, 64) * (surface.instances == 0)
    whole: Array = surface.albedo * (bench.light[0] * (1 + ramp) * shade * (1 - 0.45 * shadow) * grain)[..., None]
    return whole


def _sensed(
    bench: Bench, surface: _Surface, scale: float, rng: np.random.Generator, holes: float
) -> NDArray[np.float32]:
    """Metres from the camera, with noise; NaN beside edges that the projector does not reach, on shine, in specks."""
    size = surface.height.shape
    y, x = ((np.arange(n) + 0.5) * scale for n in size)
    plane = bench.tilt[0] * (x - x.mean()) + bench.tilt[1] * (y - y.mean())[:, None]
    depth = CAMERA - surface.height - plane
    metres = (depth + rng.normal(0, 0.08, size)) / 100
    lost = np.zeros(size, bool)
    reach = max(1, round(holes * BASELINE * 4 / CAMERA / scale * 2))
    for step in range(1, reach + 1):  # left of what is high lies what the projector, at the right, does not see
        rise = np.zeros(size)
        rise[:, :-step] = surface.height[:, step:] - surface.height[:, :-step]
        lost |= rise * BASELINE / CAMERA * holes > (step - 0.5) * scale
    shine = np.array([0.0, *(PARTS[NAMES[part.label]].shine for part in bench.parts)])[surface.instances]
    lost |= _clouds(rng, size, 40) + 2.5 * shine * holes > 2.9
    lost |= rng.random(size) < 0.004 * holes
    return np.where(lost & (holes > 0), np.nan, metres).astype(np.float32)


def _clouds(rng: np.random.Generator, size: tuple[int, ...], cells: int) -> Array:
    """Smooth noise of variance about 1, with so many bumps along the width."""
    coarse = rng.normal(0, 1.4, (max(2, cells * size[0] // size[1]), cells))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float64)
