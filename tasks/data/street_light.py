"""From surfaces to a photograph: texture, shadow, weather, night, lamps and the sensor's noise."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.data.street_canvas import NEAR, Canvas, Table
from tasks.data.street_scene import Colour, Scene

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """How a condition looks."""

    zenith: Colour
    haze: Colour  # the sky's colour at the horizon
    sunny: bool = False
    contrast: float = 1.0
    lift: float = 0.0  # added to all colours
    tint: Colour = (1.0, 1.0, 1.0)
    extinction: float = 0.0  # share of light lost a metre
    noise: float = 4.0  # of the sensor, in grey levels
    lamps: bool = False
    ambient: float = 1.0  # what is lit without headlights
    rain: bool = False

    @property
    def dark(self) -> bool:
        """Whether headlights are what one sees by."""
        return self.ambient < 1


WEATHERS = {
    "clear": Weather((105, 155, 225), (190, 210, 235), sunny=True),
    "overcast": Weather((165, 168, 175), (195, 197, 200), contrast=0.8, lift=22),
    "dusk": Weather((80, 78, 140), (255, 165, 105), sunny=True, tint=(0.84, 0.64, 0.56), lamps=True, noise=5),
    "rain": Weather(
        (128, 133, 141), (160, 164, 168), contrast=0.62, lift=32, extinction=0.010, noise=6, lamps=True, rain=True
    ),
    "fog": Weather((186, 189, 191), (196, 198, 199), contrast=0.85, extinction=0.040, noise=5, lamps=True),
    "night": Weather((28, 32, 58), (62, 62, 78), tint=(0.95, 0.95, 1.1), ambient=0.22, noise=9, lamps=True),
}
_FOG = np.array((190, 192, 195), np.float32)
# strength of fine and coarse texture of each segmentation class
_FINE = np.array((0.05, 0.05, 0.05, 0.16, 0.01, 0.03, 0.03, 0.03, 0.05, 0.05, 0.02), np.float32)
_COARSE = np.array((0.05, 0.05, 0.035, 0.12, 0.03, 0.025, 0.03, 0.025, 0.03, 0.03, 0.02), np.float32)
_TENT = np.array((0.25, 0.5, 0.25), np.float32)


def photograph(
    canvas: Canvas, table: Table, scene: Scene, driven: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The image ``[H, W, 3]`` uint8 RGB of a finished canvas, ``driven`` metres into the scene."""
    weather = WEATHERS[scene.condition]
    points = _lit_surfaces(canvas, table, scene, weather, driven)
    image: Image = cv2.sepFilter2D(points, -1, _TENT, _TENT)[1::2, 1::2]  # type: ignore[assignment]
    inverse = canvas.nearness()
    image = image * np.float32(weather.contrast) + np.float32(weather.lift)
    tint = np.asarray(scene.light.tint) * weather.tint * scene.light.gain
    if weather.dark:
        image *= _headlights(canvas, inverse, weather.ambient)[..., None]
    image *= tint.astype(np.float32)
    if weather.extinction:
        clear = np.exp(-weather.extinction / np.maximum(inverse, np.float32(1 / 250)))[..., None]
        image = image * clear + _FOG * np.float32(scene.light.gain) * (1 - clear)
    if weather.lamps:
        image += _glow(canvas, image.shape[:2], weather.dark)
    if weather.rain:
        image = _rain(image, rng)
    height, width = image.shape[:2]
    image += rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(weather.noise)
    image += rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(0.5 * weather.noise)
    return np.clip(image, 0, 255).astype(np.uint8)


def _lit_surfaces(canvas: Canvas, table: Table, scene: Scene, weather: Weather, driven: float) -> Image:
    """Colours of all points ``[2H, 2W, 3]``: texture on everything, shadow on the ground alone."""
    surface = canvas.surface.astype(np.intp)
    colours = np.take(table.colours, surface, axis=0, mode="clip")
    height = np.clip(np.arange(len(surface)) / (2 * max(canvas.camera.horizon, 1)), 0, 1)[:, None]
    gradient = (np.asarray(weather.zenith) * (1 - height) + np.asarray(weather.haze) * height).astype(np.float32)
    rows, columns = np.nonzero(surface == 0)
    colours[rows, columns] = gradient[rows]
    fine, coarse = _noise(*surface.shape)
    down, left = scene.texture % len(surface), (scene.texture // 997 + round(20 * driven)) % surface.shape[1]
    kinds = np.take(table.kinds, surface, mode="clip")
    gain = np.take(_FINE, kinds) * np.roll(fine, (down, -left), (0, 1))
    gain += np.take(_COARSE, kinds) * np.roll(coarse, (down, -left), (0, 1))
    gain += 1
    shade = canvas.shade()
    shade[~np.take(table.ground, surface, mode="clip")] = 255
    gain *= shade
    colours *= (gain * np.float32(1 / 255))[..., None]
    return colours


@cache
def _noise(height: int, width: int) -> tuple[Image, Image]:
    """Two smooth textures of deviation 1, the same for every scene; scenes begin them elsewhere."""
    rng = np.random.default_rng(12345)
    made = []
    for sigma in (2.0, 5.0):
        white = rng.standard_normal((height, width)).astype(np.float32)
        smooth = cv2.GaussianBlur(white, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        made.append((smooth / smooth.std()).astype(np.float32))
        made[-1].setflags(write=False)
    return made[0], made[1]


def _headlights(canvas: Canvas, inverse: Image, ambient: float) -> Image:
    """How much light falls on each pixel at night: a beam ahead that fades with distance."""
    height, width = inverse.shape
    x = (np.arange(width, dtype=np.float32) + 0.5 - canvas.camera.centre) / (0.32 * width)
    y = (np.arange(height, dtype=np.float32) + 0.5 - 0.82 * height) / (0.34 * height)
    beam = np.exp(-(x * x))[None] * np.exp(-(y * y))[:, None]
    near = np.exp(-1 / np.maximum(inverse, np.float32(1 / 250)) / 45)
    light: NDArray[np.float32] = (ambient + 0.9 * beam * near * (inverse > 0)).astype(np.float32)
    return light


def _glow(canvas: Canvas, size: tuple[int, int], night: bool) -> Image:
    """Light ``[H, W, 3]`` of the lamps that nothing hides."""
    height, width = size
    lamps = np.zeros((height, width, 3), np.uint8)
    for lamp in canvas.lamps:
        if lamp.point[2] <= NEAR:
            continue
        x, y = canvas.camera.project(np.array(lamp.point)).tolist()
        row, column = round(2 * y), round(2 * x)
        if not (0 <= row < canvas.shape[0] and 0 <= column < canvas.shape[1]):
            continue
        if canvas.inverse[row, column] * lamp.point[2] > 1.01:  # something nearer is seen there
            continue
        radius = max(1, round(canvas.camera.focal * lamp.radius / lamp.point[2]))
        cv2.circle(lamps, (int(x), int(y)), radius, lamp.colour, -1)
    glow = cv2.GaussianBlur(lamps, (0, 0), 1.0).astype(np.float32)
    return glow + 0.8 * cv2.GaussianBlur(lamps, (0, 0), 3.0) if night else glow


def _rain(image: Image, rng: np.random.Generator) -> Image:
    """Streaks, and a wet lens."""
    height, width = image.shape[:2]
    count = round(0.003 * height * width)
    columns, rows = rng.integers(0, width, count).tolist(), rng.integers(0, height, count).tolist()
    lengths = rng.integers(max(2, height // 32), max(3, height // 11), count).tolist()
    wet = np.ascontiguousarray(image)
    for x, y, length in zip(columns, rows, lengths, strict=True):
        cv2.line(wet, (x, y), (x + 1, y + length), (175, 178, 182), 1)
    return np.asarray(cv2.GaussianBlur(wet, (0, 0), 0.6), np.float32)
