"""What a joint augmentation may do to an image: the YAML keys, and one random change drawn from them.

Numpy only, so that configurations can be read without torch.
"""

from dataclasses import dataclass

import numpy as np

from tasks.photometric import Step, check_steps
from tasks.transform import (
    Points,
    Size,
    Transform,
    cropped,
    identity,
    mirrored,
    moved,
    quarter_turned,
    resized,
    tilted,
    upside_down,
    zoomed,
)

_STEEPEST = 0.2  # share that a corner may move by: from 0.25 on the corners may lie in a line
_DRAWS = 21  # random numbers of a change, whatever it does: a key does not shift what another one draws


@dataclass(frozen=True)
class Recipe:
    """Random changes of an image and all its labels. The fields are the YAML keys."""

    flip: float = 0.5  # probability of the mirror image
    flip_vertical: float = 0.0  # probability of the image upside down (mirrored)
    quarter_turns: float = 0.0  # probability of a turn by 90, 180 or 270 degrees
    warp: float = 1.0  # probability of the next five together, which resample the pixels
    rotate: float = 0.0  # degrees: turned by up to this, either way
    scale: tuple[float, float] = (1.0, 1.0)  # about the centre
    shift: float = 0.0  # share of the width and of the height: moved by up to this
    shear: float = 0.0  # degrees
    perspective: float = 0.0  # share of the width and of the height that each corner moves by, at most
    crop: tuple[float, float] = (1.0, 1.0)  # share of each side that a window at a random place keeps
    size: tuple[int, int] | None = None  # H, W of the result; None = what the steps above make
    min_area: float = 1.0  # px²: objects of which less is left are removed
    min_visible: float = 0.1  # share: objects of which less is in the picture are removed; crowds are kept
    photometric: tuple[Step, ...] = ()  # albumentations' changes of light, see tasks/photometric.py

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "quarter_turns", "warp", "shift", "min_visible"):
            _between(name, getattr(self, name), 0, 1)
        _between("rotate", self.rotate, 0, 180)
        _between("shear", self.shear, 0, 60)
        _between("perspective", self.perspective, 0, _STEEPEST)
        _between("min_area", self.min_area, 0, np.inf)
        for name, lowest, highest in (("scale", 0.05, 20), ("crop", 0.01, 1)):
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"{name} is {[low, high]}; expected [from, to] with {lowest} <= from <= to <= {highest}: correct it"
                )
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size is {list(self.size)}; expected [height, width] in pixels: correct it")
        check_steps(self.photometric)

    def draw(self, rng: np.random.Generator, size: Size, keep_size: bool = False) -> Transform:
        """One random change of an image of H, W as one matrix; 21 numbers are drawn, whatever it does.

        ``keep_size``: the result has the image's own size (as batches need), so images that are not square are turned
        by 180 degrees only, and crops are enlarged.
        """
        u = rng.random(_DRAWS).tolist()
        change = identity(size)
        if u[0] < self.flip:
            change = change.then(mirrored(size))
        if u[1] < self.flip_vertical:
            change = change.then(upside_down(size))
        if u[2] < self.quarter_turns:
            turns = 2 if keep_size and size[0] != size[1] else 1 + int(3 * u[3])
            change = change.then(quarter_turned(size, turns))
        if u[4] < self.warp:
            change = self._warped(change, u[5:18])
        return self._windowed(change, u[18:], size if keep_size else self.size)

    def _warped(self, change: Transform, u: list[float]) -> Transform:
        """With tilt, turn, scale, shift and shear; steps that are off leave the matrix bit for bit."""
        height, width = change.target
        signs = [2 * value - 1 for value in u]
        if self.perspective:
            corners: Points = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
            reach = self.perspective * np.array([width, height])
            change = change.then(tilted(change.target, corners + reach * np.reshape(signs[:8], (4, 2))))
        scale = self.scale[0] + u[9] * (self.scale[1] - self.scale[0])
        shift = (signs[10] * self.shift * width, signs[11] * self.shift * height)
        if self.rotate or self.shear or scale != 1 or self.shift:
            change = change.then(moved(change.target, signs[8] * self.rotate, scale, shift, signs[12] * self.shear))
        return change

    def _windowed(self, change: Transform, u: list[float], target: Size | None) -> Transform:
        """Cut to a window, and at the size that is asked for."""
        (height, width), share = change.target, self.crop[0] + u[0] * (self.crop[1] - self.crop[0])
        part = max(1, round(height * share)), max(1, round(width * share))
        left, top = int(u[1] * (width - part[1] + 1)), int(u[2] * (height - part[0] + 1))
        if part != change.target:
            if target is None:
                return change.then(cropped(change.target, left, top, part))
            return change.then(zoomed(change.target, left, top, part, target))
        return change if target in (None, change.target) else change.then(resized(change.target, target))


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or value == np.inf:
        expected = f"{low:g} to {high:g}" if high < np.inf else f"{low:g} or more"
        raise ValueError(f"{name} is {value}; expected {expected}: correct it")
