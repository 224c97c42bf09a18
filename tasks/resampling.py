"""Pixels under a transform: one resampling, whatever the transform was composed of."""

from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.transform import Transform

_T = TypeVar("_T", bound=np.generic)


class Resampling:
    """Moves the pixels of an image and of all its maps; where each target pixel comes from is computed once.

    Nearest: a target pixel takes the source pixel that its centre falls in. Linear: between the centres of the four
    source pixels around it. Mirrors, quarter turns and whole-pixel shifts move pixels bit for bit in both.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def nearest(self, values: NDArray[_T], fill: Any) -> NDArray[_T]:
        """A map ``[H, W]`` or ``[H, W, C]`` in the target; ``fill`` where it comes from outside of the source."""
        self._check(values)
        flat = values.reshape(-1, *values.shape[2:])
        padded = np.concatenate([flat, np.full_like(flat[:1], fill)])
        return np.ascontiguousarray(padded[self._index])

    def linear(self, pixels: NDArray[_T]) -> NDArray[_T]:
        """An image ``[H, W, 3]`` (uint8 or float32) in the target; its mean colour where nothing is known."""
        self._check(pixels)
        colour = pixels.reshape(-1, pixels.shape[-1]).mean(0)
        fill = (colour.round() if pixels.dtype == np.uint8 else colour).astype(pixels.dtype)
        if self._transform.is_exact:
            return self.nearest(pixels, fill)
        to_edges, to_centres = np.eye(3), np.eye(3)  # OpenCV counts from the centre of the first pixel
        to_edges[:2, 2], to_centres[:2, 2] = 0.5, -0.5
        matrix = to_centres @ np.linalg.inv(self._transform.matrix) @ to_edges
        height, width = self._transform.target
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        plain: Any = pixels
        found: Any = cv2.warpPerspective(plain, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        found[self._outside] = fill
        return found  # type: ignore[no-any-return]

    @cached_property
    def _index(self) -> NDArray[np.intp]:
        """The source pixel ``[H', W']`` of each target pixel, counted row by row; one too high where there is none."""
        (height, width), (rows, columns) = self._transform.source, self._transform.target
        inverse = np.linalg.inv(self._transform.matrix)
        if self._transform.is_exact:
            inverse = np.round(inverse)
        x, y = np.arange(columns) + 0.5, np.arange(rows)[:, None] + 0.5
        sx, sy, depth = (a * x + b * y + c for a, b, c in inverse)
        ahead = depth > 0  # never false under affine maps; in perspective, what lies behind the camera
        depth = np.where(ahead, depth, 1.0)
        column, row = np.floor(sx / depth), np.floor(sy / depth)
        inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index: NDArray[np.intp] = np.where(inside, row * width + column, height * width).astype(np.intp)
        return index

    @cached_property
    def _outside(self) -> NDArray[np.bool_]:
        height, width = self._transform.source
        outside: NDArray[np.bool_] = self._index == height * width
        return outside

    def _check(self, values: NDArray[Any]) -> None:
        if values.shape[:2] != self._transform.source:
            raise ValueError(f"a map is of {values.shape[:2]} px; expected {self._transform.source}, as the image")
