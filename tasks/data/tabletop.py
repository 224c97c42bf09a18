"""A table with parts on it as an RGB-D camera sees it: light, shadows, colours, depth with the sensor's holes.

The camera looks straight down from half a metre, so that a pixel is the same length everywhere on the table. Lengths
are centimetres; a part lies with its long axis along u, v is across.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.data.files import staged

Array = NDArray[np.float64]
Colour = tuple[float, float, float]  # RGB, 0..1

CAMERA = 50.0  # cm above the table
BASELINE = 2.6  # cm between the projector and the camera
BLACK, STEEL, ALUMINIUM, IRON = (0.10, 0.10, 0.11), (0.52, 0.53, 0.55), (0.72, 0.73, 0.74), (0.30, 0.30, 0.33)
PLASTIC, BRASS, BLUE = (0.80, 0.62, 0.18), (0.72, 0.55, 0.25), (0.16, 0.25, 0.50)
TABLES: tuple[Colour, ...] = (  # white, grey, blue, wood, green
    (0.86, 0.86, 0.84), (0.50, 0.51, 0.52), (0.30, 0.38, 0.52), (0.66, 0.50, 0.33), (0.34, 0.46, 0.36),
)  # fmt: skip


# ---- what lies there -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A part at some points (u, v)."""

    height: Array  # cm above what it lies on; 0 = not there
    albedo: Array  # [..., 3]


@dataclass(frozen=True)
class Part:
    look: Callable[[Array, Array], Look]
    reach: float  # cm: radius of a circle around (0, 0) that holds it
    shine: float  # 0..1: how much of the projected pattern is mirrored away, so that the camera sees no depth


@dataclass(frozen=True)
class Laid:
    """A part at its place."""

    part: Part
    x: float  # cm from the image's left edge, of its (0, 0)
    y: float  # cm from the top
    turn: float  # radians from x towards y, of its long axis
    lift: float = 0.0  # cm: the height of what it lies on


@dataclass(frozen=True)
class Setting:
    """A table and its light."""

    colour: Colour
    tilt: tuple[float, float]  # cm of height for each cm of x and of y
    sun: tuple[float, float]  # shadow in cm for each cm of height
    light: tuple[float, float, float]  # gain, and its slope along x and y over the image


def painted(height: Array, colour: Colour, *strokes: tuple[NDArray[np.bool_], float]) -> Look:
    """One colour, multiplied by a factor where a stroke lies."""
    albedo = np.broadcast_to(np.asarray(colour), (*height.shape, 3)).copy()
    for where, factor in strokes:
        albedo[where] *= factor
    return Look(height, albedo)


def draw_setting(rng: np.random.Generator) -> Setting:
    """A table of one of five colours, a little tilted, in some light."""
    base = TABLES[int(rng.integers(len(TABLES)))]
    red, green, blue = (float(np.clip(c * rng.uniform(0.9, 1.1), 0, 1)) for c in base)
    angle, length = float(rng.uniform(0, 2 * pi)), float(rng.uniform(0.2, 0.8))
    tilt, slope = rng.uniform(-0.03, 0.03, 2).tolist(), rng.uniform(-0.25, 0.25, 2).tolist()
    light = float(rng.uniform(0.65, 1.1)), slope[0], slope[1]
    return Setting((red, green, blue), (tilt[0], tilt[1]), (length * cos(angle), length * sin(angle)), light)


def at_place(u: float, v: float, x: float, y: float, turn: float) -> tuple[float, float]:
    """Where a point (u, v) of a part is, x and y in cm."""
    return x + u * cos(turn) - v * sin(turn), y + u * sin(turn) + v * cos(turn)


# ---- what is seen ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surface:
    """What the camera sees of a scene, at the centres of the pixels."""

    height: Array  # [H, W] cm above the table
    albedo: Array  # [H, W, 3]
    instances: NDArray[np.uint8]  # [H, W] 0 = table, else 1 + index of the part

    @staticmethod
    def bare(colour: Colour, size: tuple[int, int]) -> "Surface":
        """An empty table."""
        albedo = np.broadcast_to(np.asarray(colour), (*size, 3)).copy()
        return Surface(np.zeros(size), albedo, np.zeros(size, np.uint8))

    def put(self, parts: Sequence[Laid], scale: float) -> None:
        """Lay parts onto it, a later one on top of the earlier ones; ``scale``: cm of a pixel."""
        y, x = ((np.arange(n) + 0.5) * scale for n in self.height.shape)
        for index, one in enumerate(parts):
            reach = one.part.reach
            rows = slice(*np.searchsorted(y, (one.y - reach, one.y + reach)))
            columns = slice(*np.searchsorted(x, (one.x - reach, one.x + reach)))
            dx, dy = x[columns] - one.x, y[rows, None] - one.y
            u, v = dx * cos(one.turn) + dy * sin(one.turn), dy * cos(one.turn) - dx * sin(one.turn)
            look = one.part.look(u, v)
            there = look.height > 0
            self.height[rows, columns][there] = look.height[there] + one.lift
            self.albedo[rows, columns][there] = look.albedo[there]
            self.instances[rows, columns][there] = index + 1


def photo(fine: Surface, setting: Setting, scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image ``[H, W, 3]`` RGB of a surface of twice its resolution, ``scale`` cm a pixel, with noise."""
    size = fine.height.shape[0] // 2, fine.height.shape[1] // 2
    lit = _lit(setting, fine, scale, rng)
    colours = np.asarray(cv2.resize(lit, size[::-1], interpolation=cv2.INTER_AREA))
    image = colours + rng.normal(0, 0.012, colours.shape)
    pixels: NDArray[np.uint8] = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _lit(setting: Setting, surface: Surface, scale: float, rng: np.random.Generator) -> Array:
    """Colours 0..1 ``[H, W, 3]``: shading by slope, soft shadows, uneven light, the grain of the table."""
    size, sun, light = (surface.height.shape[0], surface.height.shape[1]), setting.sun, setting.light
    dy, dx = np.gradient(np.maximum(surface.height, 0), scale)
    shade = 1 - 0.35 * np.tanh(dx * sun[0] + dy * sun[1])
    shadow: Array = np.zeros(size)
    for share in (0.25, 0.5, 0.75, 1.0):  # what stands so high throws its shadow so far
        far = share * 3 / scale
        shift = np.array([[1, 0, far * sun[0]], [0, 1, far * sun[1]]])
        moved = np.asarray(cv2.warpAffine(surface.height, shift, (size[1], size[0])))
        shadow = np.maximum(shadow, np.clip(moved - surface.height - 3 * share + 0.5, 0, 1))
    shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 0.25 / scale), np.float64)
    ramp = np.linspace(-0.5, 0.5, size[1]) * light[1] + np.linspace(-0.5, 0.5, size[0])[:, None] * light[2]
    grain = 1 + 0.03 * _clouds(rng, size, 64) * (surface.instances == 0)
    whole: Array = surface.albedo * (light[0] * (1 + ramp) * shade * (1 - 0.45 * shadow) * grain)[..., None]
    return whole


def sensed(
    setting: Setting, surface: Surface, shines: Iterable[float], scale: float, rng: np.random.Generator, holes: float
) -> NDArray[np.float32]:
    """Metres from the camera, with noise; NaN beside edges that the projector does not reach, on shine, in specks.

    ``shines``: of each part. ``holes`` multiplies how much of the depth is missing: 0 = nothing.
    """
    size = surface.height.shape
    y, x = ((np.arange(n) + 0.5) * scale for n in size)
    plane = setting.tilt[0] * (x - x.mean()) + setting.tilt[1] * (y - y.mean())[:, None]
    depth = CAMERA - surface.height - plane
    metres = (depth + rng.normal(0, 0.08, size)) / 100
    lost = np.zeros(size, bool)
    reach = max(1, round(holes * BASELINE * 4 / CAMERA / scale * 2))
    for step in range(1, reach + 1):  # left of what is high lies what the projector, at the right, does not see
        rise = np.zeros(size)
        rise[:, :-step] = surface.height[:, step:] - surface.height[:, :-step]
        lost |= rise * BASELINE / CAMERA * holes > (step - 0.5) * scale
    shine = np.array([0.0, *shines])[surface.instances]
    lost |= _clouds(rng, size, 40) + 2.5 * shine * holes > 2.9
    lost |= rng.random(size) < 0.004 * holes
    return np.where(lost & (holes > 0), np.nan, metres).astype(np.float32)


def _clouds(rng: np.random.Generator, size: tuple[int, ...], cells: int) -> Array:
    """Smooth noise of variance about 1, with so many bumps along the width."""
    coarse = rng.normal(0, 1.4, (max(2, cells * size[0] // size[1]), cells))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float64)


# ---- files -----------------------------------------------------------------------------------------------------------


def write_maps(folder: Path, id: str, maps: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Write ``images`` (RGB), ``semantic`` or ``depth`` (metres), each below a folder of its name; the uri of each.

    A file appears under its name only when it is complete; one that is there is replaced.
    """
    uris = {}
    for name, values in maps.items():
        uris[name] = f"{name}/{id}{'.npy' if name == 'depth' else '.png'}"
        with staged(folder / uris[name]) as draft:
            draft.write_bytes(_array(values) if name == "depth" else _png(values))
    return uris


def _array(values: NDArray[Any]) -> bytes:
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def _png(values: NDArray[Any]) -> bytes:
    made, encoded = cv2.imencode(".png", values if values.ndim == 2 else cv2.cvtColor(values, cv2.COLOR_RGB2BGR))
    assert made
    return encoded.tobytes()
