"""Which surface each pixel sees. Image, classes, instances and depth are all looked up in that one map, so they agree.

The canvas has two by two points for each pixel. A polygon is filled at points, and point (2i+1, 2j+1) is the middle of
pixel (i, j): truth is read there, and the image is the weighted mean of the 3 x 3 points around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.data.street_scene import SKY, VEGETATION, Colour, Scene

NEAR = 0.8  # metres: what is nearer is cut off
SHADOW, CONTACT = 150, 85  # brightness of the ground in the sun's shadow and under things, of 255
_FARTHEST_POINT = 16000  # cv2 fills polygons in 16-bit coordinates

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along z; all in pixels of the image but the height."""

    focal: float
    centre: float
    horizon: float
    height: float  # metres
    bend: float  # of the road, 1 / metre

    @staticmethod
    def of(scene: Scene, size: tuple[int, int], shake: tuple[float, float] = (0.0, 0.0)) -> "Camera":
        """The camera of a scene for images of ``size`` (H, W), moved by ``shake`` (x, y) shares of the image."""
        height, width = size
        lens = scene.lens
        return Camera(
            focal=lens.focal * width,
            centre=(lens.centre + shake[0]) * width,
            horizon=(lens.horizon + shake[1]) * height,
            height=lens.height,
            bend=scene.road.bend,
        )

    def along(self, x: float, z: float) -> float:
        """Where x of the straight road lies once the road bends."""
        return x + self.bend * z * z

    def project(self, points: Floats) -> Floats:
        """Pixels ``[..., 2]`` (x, y; continuous edges) of world points ``[..., 3]`` with z >= NEAR."""
        scale = self.focal / points[..., 2]
        return np.stack(
            (self.centre + points[..., 0] * scale, self.horizon + (self.height - points[..., 1]) * scale), axis=-1
        )

    def planes(self, corners: Floats) -> Floats:
        """Rows (a, b, c) ``[K, 3]`` with 1/z = a·x + b·y + c at pixel (x, y) of the planes through ``[K, 3, 3]``."""
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        reach = (normals * corners[:, 0]).sum(1) - normals[:, 1] * self.height
        reach = np.where(np.abs(reach) < 1e-9, 1e-9, reach)  # a plane through the camera, seen as a line
        a, b = normals[:, 0] / self.focal / reach, -normals[:, 1] / self.focal / reach
        c = normals[:, 2] / reach - a * self.centre - b * self.horizon
        return np.stack((a, b, c), axis=1)


def clip_near(polygon: Floats) -> Floats:
    """The part of a polygon ``[n, 3]`` with z >= NEAR; fewer than three points where nothing is left."""
    ahead = polygon[:, 2] >= NEAR
    if ahead.all():
        return polygon
    kept: list[Floats] = []
    for i in range(len(polygon)):
        start, end = polygon[i - 1], polygon[i]
        if ahead[i - 1] != ahead[i]:
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
        if ahead[i]:
            kept.append(end)
    return np.array(kept).reshape(-1, 3)


@dataclass
class Sprite:
    """One thing as flat polygons, the farthest first. Things are compared point by point; a thing's own faces are not."""

    kind: int  # segmentation class
    faces: list[Floats] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)

    def face(self, points: ArrayLike, colour: Colour) -> None:
        """Adds a flat polygon ``[n, 3]`` in world metres; its first three points must not be in a line."""
        self.faces.append(np.asarray(points, dtype=np.float64))
        self.colours.append(colour)

    def card(self, points: Sequence[tuple[float, float]], z: float, colour: Colour) -> None:
        """Adds a polygon of (x, y) that faces the camera at distance z."""
        self.face([(x, y, z) for x, y in points], colour)


@dataclass(frozen=True)
class Lamp:
    point: tuple[float, float, float]
    radius: float  # metres
    colour: Colour


@dataclass(frozen=True)
class Table:
    """What each surface is; row k belongs to ``Canvas.surface == k``. Row 0 is the sky."""

    colours: NDArray[np.float32]  # [K, 3]
    kinds: NDArray[np.uint8]  # [K] segmentation class
    owners: NDArray[np.int32]  # [K] thing, 0 = none
    ground: NDArray[np.bool_]  # [K] shadows fall on it


class Canvas:
    """The surface seen at each point, found by comparing distances."""

    def __init__(self, camera: Camera, size: tuple[int, int]) -> None:
        self.camera = camera
        self.shape = (2 * size[0], 2 * size[1])
        self.surface: NDArray[np.int32] = np.zeros(self.shape, np.int32)
        self.inverse: NDArray[np.float32] = np.zeros(self.shape, np.float32)  # 1 / z, 0 = sky
        self.lamps: list[Lamp] = []
        self._casts: list[tuple[int, Floats]] = []
        self._colours: list[Colour] = [(0.0, 0.0, 0.0)]
        self._kinds, self._owners, self._ground = [SKY], [0], [False]

    def table(self) -> Table:
        """All surfaces so far."""
        return Table(
            np.array(self._colours, np.float32),
            np.array(self._kinds, np.uint8),
            np.array(self._owners, np.int32),
            np.array(self._ground, np.bool_),
        )

    def _add(self, colours: Sequence[Colour], kind: int, owner: int, ground: bool) -> int:
        """The row of the first of some new surfaces."""
        first, count = len(self._kinds), len(colours)
        self._colours += colours
        self._kinds += [kind] * count
        self._owners += [owner] * count
        self._ground += [ground] * count
        return first

    def _points(self, polygon: Floats) -> NDArray[np.int32]:
        points = np.rint(2 * self.camera.project(polygon))
        return np.clip(points, -_FARTHEST_POINT, _FARTHEST_POINT).astype(np.int32)

    # ---- the ground: first what lies below ------------------------------------------------------------------------

    def plain(self, colour: Colour) -> None:
        """Endless grass up to the horizon; to be drawn first."""
        below = np.arange(self.shape[0]) / 2 - self.camera.horizon
        inverse = np.maximum(below, 0) / (self.camera.focal * self.camera.height)
        self.inverse[:] = inverse[:, None]
        self.surface[below > 0] = self._add([colour], VEGETATION, 0, True)

    def ground(self, polygons: Sequence[Floats], colour: Colour, kind: int) -> None:
        """Paints polygons of (x, z) ``[n, 2]`` that do not overlap each other onto the ground."""
        surface = self._add([colour], kind, 0, True)
        for polygon in polygons:
            points = self._flat(polygon)
            if len(points) >= 3:
                cv2.fillPoly(self.surface, [points], (float(surface),))

    def cast(self, outline: ArrayLike, brightness: int) -> None:
        """Darkens the ground inside the convex hull of (x, z) ``[n, 2]``; what stands on the ground stays as it is."""
        hull = cv2.convexHull(np.asarray(outline, dtype=np.float32))[:, 0].astype(np.float64)
        self._casts.append((brightness, hull))

    def shade(self) -> NDArray[np.uint8]:
        """The brightness of each point where the ground is seen, 255 = lit; the darkest of overlapping shadows counts."""
        shade = np.full(self.shape, 255, np.uint8)
        for brightness, hull in sorted(self._casts, key=lambda cast: -cast[0]):
            points = self._flat(hull)
            if len(points) >= 3:
                cv2.fillPoly(shade, [points], (float(brightness),))
        return shade

    def _flat(self, polygon: Floats) -> NDArray[np.int32]:
        lifted = np.stack((polygon[:, 0], np.zeros(len(polygon)), polygon[:, 1]), axis=1)
        return self._points(clip_near(lifted))

    # ---- what stands on it ----------------------------------------------------------------------------------------

    def stand(self, sprite: Sprite, owner: int = 0) -> int:
        """Puts a sprite wherever it is nearer than what is there; the number of pixels it would cover alone."""
        kept = [(face, clip_near(face), c) for face, c in zip(sprite.faces, sprite.colours, strict=True)]
        kept = [(face, cut, colour) for face, cut, colour in kept if len(cut) >= 3]
        if not kept:
            return 0
        starts = np.cumsum([0] + [len(cut) for _, cut, _ in kept])
        corners = np.concatenate([cut for _, cut, _ in kept])
        points = self._points(corners)
        x0, y0 = np.maximum(points.min(0), 0).tolist()
        x1, y1 = np.minimum(points.max(0) + 1, self.shape[::-1]).tolist()
        if x0 >= x1 or y0 >= y1:
            return 0
        local = np.zeros((y1 - y0, x1 - x0), np.int16)
        for k in range(len(kept)):
            cv2.fillPoly(local, [points[starts[k] : starts[k + 1]]], (k + 1.0,), offset=(-x0, -y0))
        planes = self.camera.planes(np.stack([face[:3] for face, _, _ in kept]))
        inverse = 1 / corners[:, 2]
        limits = np.minimum.reduceat(inverse, starts[:-1]), np.maximum.reduceat(inverse, starts[:-1])
        self._compare(local, (y0, x0), planes, limits, self._add([c for _, _, c in kept], sprite.kind, owner, False))
        return int(np.count_nonzero(local[(1 - y0) % 2 :: 2, (1 - x0) % 2 :: 2]))

    def _compare(
        self,
        local: NDArray[np.int16],  # [h, w] face + 1, 0 = nothing
        corner: tuple[int, int],  # its row and column in the canvas
        planes: Floats,  # [K, 3]
        limits: tuple[Floats, Floats],  # [K] least and greatest 1 / z of a face: a rim point may lie outside its face
        first: int,  # surface of face 0
    ) -> None:
        flat = np.flatnonzero(local)
        rows, columns = np.divmod(flat, local.shape[1])
        rows, columns = rows + corner[0], columns + corner[1]
        face = local.ravel()[flat].astype(np.intp) - 1
        a, b, c = planes.T
        inverse = a[face] * (columns / 2) + b[face] * (rows / 2) + c[face]
        inverse = np.clip(inverse, limits[0][face], limits[1][face]).astype(np.float32)
        at = rows * self.shape[1] + columns
        nearer = inverse > self.inverse.ravel()[at]
        self.inverse.ravel()[at[nearer]] = inverse[nearer]
        self.surface.ravel()[at[nearer]] = first + face[nearer]
