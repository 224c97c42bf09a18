"""Pixels go where the matrix says: against a slow reference, pixel by pixel."""

from math import floor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks import transform as t
from tasks.resampling import Resampling

SIZE = (24, 40)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
CHANGES = {
    "turn": t.moved(SIZE, degrees=31),
    "shrink, shear": t.moved(SIZE, degrees=-12, scale=0.7, shear=14, shift=(2.3, -1.2)),
    "enlarge": t.moved(SIZE, scale=1.7),
    "tilt": t.tilted(SIZE, np.array([(3, 2), (39, -2), (44, 23), (-4, 20)], np.float64)),
    "mirror, turn": t.mirrored(SIZE).then(t.moved(SIZE, degrees=75)),
    "zoom": t.zoomed(SIZE, 5, 4, (13, 22), SIZE),
    "other size": t.resized(SIZE, (31, 17)),
}


def source_of(inverse: NDArray[np.float64], row: int, column: int) -> tuple[float, float]:
    """Where the centre of a target pixel comes from."""
    x, y, w = (a * (column + 0.5) + b * (row + 0.5) + c for a, b, c in inverse.tolist())
    return x / w, y / w


def slow_nearest(values: NDArray[np.uint8], change: t.Transform, fill: int) -> NDArray[np.uint8]:
    found, inverse = np.full(change.target, fill, np.uint8), np.linalg.inv(change.matrix)
    for row, column in np.ndindex(*change.target):
        x, y = source_of(inverse, row, column)
        if 0 <= x < values.shape[1] and 0 <= y < values.shape[0]:
            found[row, column] = values[floor(y), floor(x)]
    return found


def slow_linear(pixels: NDArray[np.uint8], change: t.Transform) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Between the four centres around; and where it is known."""
    found, known = np.zeros((*change.target, 3)), np.zeros(change.target, bool)
    (height, width), inverse = pixels.shape[:2], np.linalg.inv(change.matrix)
    for row, column in np.ndindex(*change.target):
        x, y = source_of(inverse, row, column)
        known[row, column] = 0 <= x < width and 0 <= y < height
        left, top = floor(x - 0.5), floor(y - 0.5)
        for dy, dx in np.ndindex(2, 2):
            weight = (1 - abs(x - 0.5 - (left + dx))) * (1 - abs(y - 0.5 - (top + dy)))
            found[row, column] += weight * pixels[np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)]
    return found, known


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nearest_is_the_slow_reference(change: t.Transform) -> None:
    values = PIXELS[..., 0]
    assert np.array_equal(Resampling(change).nearest(values, 255), slow_nearest(values, change, 255))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_linear_is_the_slow_reference(change: t.Transform) -> None:
    """To the rounding of a byte. OpenCV 4 also rounds positions to 1/32 px."""
    want, known = slow_linear(PIXELS, change)
    found = Resampling(change).linear(PIXELS)
    difference = np.abs(found.astype(float) - want)[known]
    assert difference.max() <= (0.51 if int(cv2.__version__.split(".")[0]) >= 5 else 255 / 32 + 1)
    mean = PIXELS.reshape(-1, 3).mean(0).round()
    assert (found[~known] == mean).all()


def test_exact_changes_move_pixels_bit_for_bit() -> None:
    for k in range(4):
        assert np.array_equal(Resampling(t.quarter_turned(SIZE, k)).linear(PIXELS), np.rot90(PIXELS, -k))
    assert np.array_equal(Resampling(t.mirrored(SIZE)).linear(PIXELS), PIXELS[:, ::-1])
    assert np.array_equal(Resampling(t.upside_down(SIZE)).linear(PIXELS), PIXELS[::-1])
    assert np.array_equal(Resampling(t.cropped(SIZE, 3, 4, (9, 8))).linear(PIXELS), PIXELS[4:13, 3:11])
    twice = Resampling(t.mirrored(SIZE))
    assert np.array_equal(twice.linear(twice.linear(PIXELS)), PIXELS)


def test_beyond_the_border_there_is_nothing() -> None:
    padded = Resampling(t.cropped(SIZE, -2, -1, (26, 44)))
    assert np.array_equal(padded.nearest(PIXELS[..., 0], 255)[1:-1, 2:-2], PIXELS[..., 0])
    assert (padded.nearest(PIXELS[..., 0], 255)[0] == 255).all()
    assert np.isnan(padded.nearest(np.ones(SIZE, np.float32), np.nan)[:, :2]).all()


def test_the_number_of_threads_changes_nothing() -> None:
    before = cv2.getNumThreads()
    found = []
    try:
        for count in (1, 4):
            cv2.setNumThreads(count)
            found.append(Resampling(CHANGES["turn"]).linear(np.tile(PIXELS, (1, 1, 1))))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*found)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a map is of \(3, 3\) px; expected \(24, 40\)"):
        Resampling(CHANGES["turn"]).nearest(np.zeros((3, 3), np.uint8), 0)


@pytest.mark.parametrize("change", [*CHANGES.values(), t.mirrored(SIZE), t.quarter_turned(SIZE, 3)])
def test_a_patch_is_the_map_that_holds_it(change: t.Transform) -> None:
    values, whole = PIXELS[5:14, 7:30, 0], np.zeros(SIZE, np.uint8)
    whole[5:14, 7:30] = values
    found, place = Resampling(change).patch(values, 5, 7)
    again = np.zeros(change.target, np.uint8)
    again[place.top : place.bottom, place.left : place.right] = found
    assert found.shape == place.size
    assert np.array_equal(again, Resampling(change).nearest(whole, 0))


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("channels", [(), (2,), (5,)])
def test_exact_changes_move_any_kind_of_value(kind: type, channels: tuple[int, ...]) -> None:
    values = RNG.integers(0, 2, (*SIZE, *channels)).astype(kind)
    for k in range(4):
        found = Resampling(t.quarter_turned(SIZE, k)).nearest(values, 0)
        assert found.dtype == kind
        assert np.array_equal(found, np.rot90(values, -k))
    both = Resampling(t.quarter_turned(SIZE, 1).then(t.mirrored(SIZE[::-1])).then(t.cropped(SIZE[::-1], -1, 3, (4, 9))))
    assert np.array_equal(both.nearest(values, 0)[:, 1:], values.swapaxes(0, 1)[3:7, :8])
