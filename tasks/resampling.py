"""Pixels under a transform: one resampling, whatever the transform was composed of."""

from collections.abc import Iterator
from functools import cached_property
from math import ceil, floor, prod
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.transform import Size, Transform

_T = TypeVar("_T", bound=np.generic)
_Floats = NDArray[Any]  # float64
_BAND = 32  # rows
_OPENCV = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # bytes of a pixel that cv2.transpose takes; ten times as fast as numpy


class Window(NamedTuple):
    """A part of a map: from (left, top) to before (right, bottom)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        return self.bottom - self.top, self.right - self.left


class Resampling:
    """Moves the pixels of an image and of all its maps; where each target pixel comes from is computed once.

    Nearest: a target pixel takes the source pixel that its centre falls in. Linear: between the centres of the four
    source pixels around it. Mirrors, quarter turns and whole-pixel shifts move pixels bit for bit in both.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._whole = Window(0, 0, *transform.target)

    def nearest(self, values: NDArray[_T], fill: Any) -> NDArray[_T]:
        """A map ``[H, W]`` or ``[H, W, C]`` in the target; ``fill`` where it comes from outside of the source."""
        self._check(values)
        if not self._transform.is_exact:
            flat = values.reshape(-1, *values.shape[2:])
            padded = np.concatenate([flat, np.full_like(flat[:1], fill)])
            return padded.take(self._index, 0)
        moved, place = self._laid(values, 0, 0)
        if place == self._whole:
            return np.ascontiguousarray(moved)
        found = np.full((*self._transform.target, *values.shape[2:]), fill, values.dtype)
        found[place.top : place.bottom, place.left : place.right] = moved
        return found

    def linear(self, pixels: NDArray[_T]) -> NDArray[_T]:
        """An image ``[H, W, 3]`` (uint8 or float32) in the target; its mean colour where nothing is known."""
        self._check(pixels)
        if self._transform.is_exact:
            is_full = self._transform.keeps_all and prod(self._transform.source) == prod(self._transform.target)
            return self.nearest(pixels, 0 if is_full else _mean_colour(pixels))
        to_edges, to_centres = np.eye(3), np.eye(3)  # OpenCV counts from the centre of the first pixel
        to_edges[:2, 2], to_centres[:2, 2] = 0.5, -0.5
        matrix = to_centres @ self._inverse @ to_edges
        height, width = self._transform.target
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        plain: Any = pixels
        found: Any = cv2.warpPerspective(plain, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        outside: Any = self._outside().view(np.uint8)
        if outside.any():
            colour: Any = _mean_colour(pixels).reshape(1, 1, -1)
            cv2.copyTo(cv2.copyMakeBorder(colour, 0, height - 1, 0, width - 1, cv2.BORDER_REPLICATE), outside, found)
        return found  # type: ignore[no-any-return]

    def patch(self, values: NDArray[_T], top: int, left: int) -> tuple[NDArray[_T], Window]:
        """What the target shows of a patch ``[h, w]`` at (top, left) of a map, and where; 0 beyond the patch."""
        if self._transform.is_exact:
            return self._laid(values, top, left)
        source = Window(top, left, top + values.shape[0], left + values.shape[1])
        place = self._reached(source)
        columns, rows, inside = self._sources(place, source)
        index = np.where(inside, (rows - top) * values.shape[1] + (columns - left), values.size).astype(np.intp)
        padded: NDArray[_T] = np.append(values, np.zeros(1, values.dtype))
        return padded.take(index), place

    # ---- mirrors, quarter turns, whole-pixel shifts and cuts ----

    def _laid(self, values: NDArray[_T], top: int, left: int) -> tuple[NDArray[_T], Window]:
        """What the target shows of a patch at (top, left), and where."""
        (a, b, x), (c, d, y) = np.round(self._transform.matrix[:2]).astype(int).tolist()
        swaps = a == 0
        if swaps:
            values, top, left, a, d = values.swapaxes(0, 1), left, top, b, c
        height, width = values.shape[:2]
        up, back = d < 0, a < 0  # from here on rows become rows and columns columns
        first_row, first_column = y - top - height if up else y + top, x - left - width if back else x + left
        rows, above = _kept(first_row, height, self._transform.target[0], up)
        columns, before = _kept(first_column, width, self._transform.target[1], back)
        part = values[rows, columns]
        place = Window(above, before, above + part.shape[0], before + part.shape[1])
        return _turned(part.swapaxes(0, 1) if swaps else part, swaps, up, back), place

    # ---- all others ----

    @cached_property
    def _inverse(self) -> _Floats:
        inverse: _Floats = np.linalg.inv(self._transform.matrix)
        return inverse

    @cached_property
    def _index(self) -> NDArray[np.intp]:
        """The source pixel ``[H', W']`` of each target pixel, counted row by row; one too high where there is none."""
        height, width = self._transform.source
        index = np.empty(self._transform.target, np.intp)
        for band in self._bands():
            columns, rows, inside = self._sources(band, Window(0, 0, height, width))
            rows *= width
            rows += columns
            rows[~inside] = height * width
            index[band.top : band.bottom] = rows
        return index

    def _bands(self) -> Iterator[Window]:
        """The target, some rows at a time: what is computed of them stays in the processor's cache."""
        height, width = self._transform.target
        return (Window(top, 0, min(top + _BAND, height), width) for top in range(0, height, _BAND))

    def _sources(self, place: Window, source: Window) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
        """The source pixel (column, row) of each target pixel of a window, and whether it is in the source window."""
        x, y = np.arange(place.left, place.right) + 0.5, np.arange(place.top, place.bottom)[:, None] + 0.5
        columns, rows = (_plane(line, x, y) for line in self._inverse[:2])
        ahead: NDArray[np.bool_] | bool = True
        if not self._transform.is_affine:  # what lies behind the camera is nowhere
            depth = _plane(self._inverse[2], x, y)
            ahead = depth > 0
            depth[~ahead] = 1.0
            columns /= depth
            rows /= depth
        np.floor(columns, out=columns)
        np.floor(rows, out=rows)
        inside = (columns >= source.left) & (columns < source.right)
        inside &= (rows >= source.top) & (rows < source.bottom)
        inside &= ahead
        return columns, rows, inside

    def _outside(self) -> NDArray[np.bool_]:
        """Which target pixels ``[H', W']`` come from outside of the source."""
        spans = self._spans() if self._transform.is_affine else None
        if spans is not None:
            columns = np.arange(self._transform.target[1], dtype=np.int32)
            return (columns < spans[0][:, None]) | (columns >= spans[1][:, None])
        source = Window(0, 0, *self._transform.source)
        return ~np.concatenate([self._sources(band, source)[2] for band in self._bands()])

    def _spans(self) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
        """From which column to before which one each row of the target comes from the source, under an affine map.

        Along a row the source's x and y only grow or only fall, in floating point too. So it crosses an edge of the
        source where a pixel has crossed it and the pixel before has not. None where rounding hides the place.
        """
        (height, width), (rows, columns) = self._transform.source, self._transform.target
        slopes, others, shifts = self._inverse[:2].repeat(2, 0).T[:, :, None]  # of x and x, y and y: [4, 1] each
        falls = slopes < 0
        bounds = np.array([(0, width), (0, height)], np.float64)
        bounds = np.where(falls[::2], bounds[:, ::-1], bounds).reshape(4, 1)  # the edge that is met first, and last
        base = others * (np.arange(rows) + 0.5)

        def crossed(column: _Floats) -> NDArray[Any]:
            has_crossed: NDArray[Any] = (slopes * (column + 0.5) + base + shifts >= bounds) ^ falls
            return has_crossed

        with np.errstate(over="ignore"):
            place = (bounds - shifts - base) / np.where(slopes == 0, np.finfo(np.float64).tiny, slopes)
        found = np.ceil(place - 0.5).clip(0, columns)
        if not ((crossed(found) | (found == columns)) & (~crossed(found - 1) | (found == 0))).all():
            return None
        first, end = np.maximum(found[0], found[2]), np.minimum(found[1], found[3])
        return first.astype(np.int32), end.astype(np.int32)

    def _reached(self, source: Window) -> Window:
        """The part of the target that a part of the source may come to."""
        (a, b, c), (d, e, f), (g, h, i) = self._transform.matrix.tolist()
        corners = [(x, y) for x in (source.left, source.right) for y in (source.top, source.bottom)]
        depth = [g * x + h * y + i for x, y in corners]
        if min(depth) <= 0:
            return self._whole
        xs = [(a * x + b * y + c) / w for (x, y), w in zip(corners, depth, strict=True)]
        ys = [(d * x + e * y + f) / w for (x, y), w in zip(corners, depth, strict=True)]
        (height, width) = self._transform.target
        top, left = max(0, floor(min(ys)) - 1), max(0, floor(min(xs)) - 1)
        return Window(top, left, max(top, min(height, ceil(max(ys)) + 1)), max(left, min(width, ceil(max(xs)) + 1)))

    def _check(self, values: NDArray[Any]) -> None:
        if values.shape[:2] != self._transform.source:
            raise ValueError(f"a map is of {values.shape[:2]} px; expected {self._transform.source}, as the image")


def _plane(line: _Floats, x: _Floats, y: _Floats) -> _Floats:
    """a x + b y + c at each place."""
    found: _Floats = line[0] * x + line[1] * y
    found += line[2]
    return found


def _kept(first: int, length: int, limit: int, is_mirrored: bool) -> tuple[slice, int]:
    """Of a stretch that comes to ``first`` in a target of ``limit`` px: the part of it that stays, and where."""
    start = min(max(first, 0), limit)
    low, high = start - first, max(start, min(first + length, limit)) - first
    low, high = min(low, length), min(high, length)
    return (slice(length - high, length - low) if is_mirrored else slice(low, high)), start


def _turned(values: NDArray[_T], swaps: bool, up: bool, back: bool) -> NDArray[_T]:
    """A map with its axes exchanged, then its rows or columns in the other order, byte for byte."""
    code = (None, 0, 1, -1)[up + 2 * back]
    width = values.itemsize * prod(values.shape[2:])
    if width not in _OPENCV or not values.size:
        turned = values.swapaxes(0, 1) if swaps else values
        return turned[:: -1 if up else 1, :: -1 if back else 1]
    raw: Any = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape[:2], width)
    raw = cv2.transpose(raw) if swaps else raw
    raw = raw if code is None else cv2.flip(raw, code)
    shape = values.shape[1::-1] if swaps else values.shape[:2]
    found: NDArray[_T] = raw.reshape(*shape, width).view(values.dtype).reshape(*shape, *values.shape[2:])
    return found


def _mean_colour(pixels: NDArray[_T]) -> NDArray[_T]:
    """The mean ``[C]`` over all pixels, in their own type."""
    if pixels.dtype == np.uint8:
        whole: Any = np.ascontiguousarray(pixels)
        sums = np.array(cv2.sumElems(whole)[: pixels.shape[-1]])
        mean: Any = (sums / (pixels.size // pixels.shape[-1])).round()
    else:
        mean = pixels.reshape(-1, pixels.shape[-1]).mean(0)
    return mean.astype(pixels.dtype)  # type: ignore[no-any-return]
