"""A geometric change of an image as one matrix. Numpy only, so that configurations can be read without torch.

Continuous edges everywhere, as in ``geometry``: pixel (i, j) covers ``[j, j + 1) x [i, i + 1)``, its centre is
``(j + 0.5, i + 0.5)``, an image is ``[0, W] x [0, H]``, its mirror sends x to W - x, and it turns about
``(W / 2, H / 2)``. Matrices are ``[3, 3]`` float64 and send source xy to target xy (homogeneous coordinates).
"""

from dataclasses import dataclass
from functools import cached_property
from math import cos, radians, sin, tan

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]  # H, W
Points = NDArray[np.float64]  # [..., 2] xy
Matrix = NDArray[np.float64]  # [3, 3]


@dataclass(frozen=True, eq=False)
class Transform:
    """Where each point of a source image goes in a target image. Several become one with ``then``."""

    matrix: Matrix
    source: Size
    target: Size
    depth_scale: float = 1.0  # how much nearer the camera seems to be: depth is divided by it

    def then(self, next: "Transform") -> "Transform":
        """This change and then another one, as one matrix."""
        if next.source != self.target:
            raise ValueError(f"a change of {next.source} follows one that makes {self.target}; expected one size")
        scale = self.depth_scale * next.depth_scale
        return Transform(next.matrix @ self.matrix, self.source, next.target, scale)

    @property
    def mirrors(self) -> bool:
        """Whether left and right change places (the orientation of the plane is reversed)."""
        return bool(np.linalg.det(self.matrix) < 0)

    @cached_property
    def is_affine(self) -> bool:
        """Whether parallel lines stay parallel."""
        return np.array_equal(self.matrix[2], (0.0, 0.0, 1.0))

    @property
    def is_upright(self) -> bool:
        """Whether upright boxes stay upright boxes, so that the hull of the corners is no larger than the box."""
        linear = self.matrix[:2, :2]
        return self.is_affine and bool((linear == 0).sum() == 2)

    @cached_property
    def is_exact(self) -> bool:
        """Whether every pixel goes to exactly one pixel: mirrors, quarter turns, shifts and cuts by whole pixels."""
        return self.is_upright and bool((np.abs(self.matrix[:2, :2]) <= 1).all() and _whole(self.matrix))

    @property
    def keeps_all(self) -> bool:
        """Whether it is exact and nothing leaves the picture."""
        height, width = self.source
        corners = self.points(np.array([(0, 0), (width, height)], np.float64))
        return self.is_exact and bool((corners >= 0).all() and (corners <= self.target[::-1]).all())

    def points(self, xy: Points) -> Points:
        """Points ``[..., 2]`` in the target; where one goes depends neither on its company nor on the processor."""
        x, y = xy[..., 0], xy[..., 1]
        found = np.empty(xy.shape, np.float64)
        for axis in (0, 1):
            a, b, c = self.matrix[axis].tolist()
            found[..., axis] = x * a + y * b + c  # a matrix product would add as its library and its size have it
        if not self.is_affine:
            a, b, c = self.matrix[2].tolist()
            found /= (x * a + y * b + c)[..., None]
        return found

    def scaled(self, source: Size, target: Size) -> "Transform":
        """The same change for a map of the image that is stored at other sizes."""
        before, after = resized(source, self.source), resized(self.target, target)
        return Transform(after.matrix @ self.matrix @ before.matrix, source, target, self.depth_scale)


def _whole(matrix: Matrix) -> bool:
    return np.array_equal(matrix, np.round(matrix))


def identity(size: Size) -> Transform:
    """Nothing changes."""
    return Transform(np.eye(3), size, size)


def mirrored(size: Size) -> Transform:
    """Left becomes right."""
    return Transform(_matrix(-1, 0, size[1], 0, 1, 0), size, size)


def upside_down(size: Size) -> Transform:
    """Top becomes bottom, as in a mirror that lies on the floor."""
    return Transform(_matrix(1, 0, 0, 0, -1, size[0]), size, size)


def quarter_turned(size: Size, turns: int) -> Transform:
    """Turned clockwise by so many right angles; an odd number swaps height and width."""
    height, width = size
    kinds = (
        identity(size),
        Transform(_matrix(0, -1, height, 1, 0, 0), size, (width, height)),
        Transform(_matrix(-1, 0, width, 0, -1, height), size, size),
        Transform(_matrix(0, 1, 0, -1, 0, width), size, (width, height)),
    )
    return kinds[turns % 4]


def resized(size: Size, target: Size) -> Transform:
    """The whole image at another size. Depth stays: the field of view does."""
    return Transform(_matrix(target[1] / size[1], 0, 0, 0, target[0] / size[0], 0), size, target)


def cropped(size: Size, left: int, top: int, target: Size) -> Transform:
    """The window of ``target``'s size at (left, top); where it sticks out of the image there is nothing."""
    return Transform(_matrix(1, 0, -left, 0, 1, -top), size, target)


def zoomed(size: Size, left: int, top: int, part: Size, target: Size) -> Transform:
    """The window of size ``part`` at (left, top), spread over ``target``.

    What is seen enlarged is seen from nearer: the depth scale is the enlargement beyond that of the whole image.
    """
    window = cropped(size, left, top, part).then(resized(part, target))
    nearer = ((size[0] / part[0]) * (size[1] / part[1])) ** 0.5
    return Transform(window.matrix, size, target, nearer)


def moved(
    size: Size, degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), shear: float = 0.0
) -> Transform:
    """Sheared along x (degrees), scaled and turned clockwise about the image's centre, then shifted (pixels x, y).

    Depth is divided by ``scale``.
    """
    centre = np.array([size[1] / 2, size[0] / 2])
    turn = radians(degrees)
    c, s = (cos(turn), sin(turn)) if degrees % 90 else _RIGHT_ANGLES[int(degrees // 90) % 4]
    linear = np.array([[c, -s], [s, c]]) @ np.array([[1.0, tan(radians(shear))], [0.0, 1.0]]) * scale
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + np.asarray(shift) - linear @ centre
    return Transform(matrix, size, size, scale)


def tilted(size: Size, corners: Points) -> Transform:
    """The image seen in perspective: its corners (clockwise from the top left) go to ``corners [4, 2]``, in pixels.

    ValueError where these are not the corners of a convex quadrangle in this order. Depth stays as it is: a tilt has no
    one scale.
    """
    height, width = size
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    if not (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all():
        raise ValueError(f"the corners {corners.tolist()} are not those of a convex quadrangle, clockwise")
    sources = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    rows, values = [], []
    for (x, y), (u, v) in zip(sources, corners, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    solved = np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64))
    return Transform(np.append(solved, 1.0).reshape(3, 3), size, size)


_RIGHT_ANGLES = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # cosine and sine, without rounding


def _matrix(*rows: float) -> Matrix:
    return np.array([*rows, 0, 0, 1], np.float64).reshape(3, 3)
