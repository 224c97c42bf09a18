"""Which surface each pixel sees. Image, classes, instances and depth are all looked up in that one map, so they agree.

The canvas has two by two points for each pixel. A polygon is filled at points, and point (2i+1, 2j+1) is the middle of
pixel (i, j): truth is read there, and the image is the weighted mean of the 3 x 3 points around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre + points[..., 0] * scale
        pixels[..., 1] = self.horizon + (self.height - points[..., 1]) * scale
        return pixels

    def planes(self, corners: Floats) -> Floats:
        """Rows (a, b, c) ``[K, 3]`` with 1/z = a·x + b·y + c at pixel (x, y) of the planes through ``[K, 3, 3]``."""
        normals = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        reach = (normals * corners[:, 0]).sum(1) - normals[:, 1] * self.height
        reach[np.abs(reach) < 1e-9] = 1e-9  # a plane through the camera is seen as a line
        planes: Floats = normals / reach[:, None]
        planes[:, :2] *= (1 / self.focal, -1 / self.focal)
        planes[:, 2] -= planes[:, 0] * self.centre + planes[:, 1] * self.horizon
        return planes


def cross(a: Floats, b: Floats) -> Floats:
    """The cross products ``[n, 3]`` of rows."""
    out = np.empty_like(a)
    out[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    out[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    out[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return out


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


Point = Sequence[float]


@dataclass
class Sprite:
    """One thing as flat polygons, the farthest first: things are compared point by point, the faces of one are not."""

    kind: int  # segmentation class
    points: list[Point] = field(default_factory=list)  # x, y, z of all polygons
    sizes: list[int] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)

    def face(self, points: Sequence[Point], colour: Colour) -> None:
        """Adds a flat polygon of n (x, y, z) in world metres; its first three points must not be in a line."""
        self.points += points
        self.sizes.append(len(points))
        self.colours.append(colour)

    def card(self, points: Sequence[tuple[float, float]], z: float, colour: Colour) -> None:
        """Adds a polygon of (x, y) that faces the camera at distance z."""
        self.face([(x, y, z) for x, y in points], colour)

    def ahead(self) -> tuple[Floats, NDArray[np.int64], Floats, list[Colour]]:
        """Past NEAR: points ``[n, 3]``, starts of the K faces and n, points on their planes ``[K, 3, 3]``, colours."""
        points = np.array(self.points, np.float64).reshape(-1, 3)
        starts = np.concatenate(([0], np.cumsum(self.sizes))).astype(np.int64)
        corners = points[starts[:-1, None] + (0, 1, 2)]
        if not len(points) or points[:, 2].min() >= NEAR:
            return points, starts, corners, self.colours
        cut = [clip_near(points[a:b]) for a, b in pairwise(starts.tolist())]
        kept = [k for k, part in enumerate(cut) if len(part) >= 3]
        points = np.concatenate([np.zeros((0, 3)), *(cut[k] for k in kept)])
        starts = np.concatenate(([0], np.cumsum([len(cut[k]) for k in kept]))).astype(np.int64)
        return points, starts, corners[kept], [self.colours[k] for k in kept]


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
        self.inverse: NDArray[np.float32] = np.zeros(self.shape, np.float32)  # 1 / z of what stands, 0 = nothing
        below = np.maximum(np.arange(self.shape[0]) / 2 - camera.horizon, 0)
        self._floor = (below / (camera.focal * camera.height)).astype(np.float32)  # [2H] the same of flat ground
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

    def nearness(self) -> NDArray[np.float32]:
        """1 / z of each pixel ``[H, W]``, 0 = sky. The ground hides nothing, so it counts where nothing stands."""
        standing = self.inverse[1::2, 1::2]
        return np.where(standing > 0, standing, self._floor[1::2, None])

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
        self.surface[self._floor > 0] = self._add([colour], VEGETATION, 0, True)

    def ground(self, polygons: Sequence[Floats], colour: Colour, kind: int) -> None:
        """Paints polygons of (x, z) ``[n, 2]`` that do not overlap each other onto the ground."""
        surface = self._add([colour], kind, 0, True)
        self._fill(self.surface, polygons, [surface] * len(polygons))

    def cast(self, outline: ArrayLike, brightness: int) -> None:
        """Darkens the ground inside the convex hull of (x, z) ``[n, 2]``; what stands on the ground stays as it is."""
        hull = cv2.convexHull(np.asarray(outline, dtype=np.float32))[:, 0].astype(np.float64)
        self._casts.append((brightness, hull))

    def shade(self) -> NDArray[np.uint8]:
        """The brightness of each point where the ground is seen, 255 = lit; of overlapping shadows the darkest."""
        shade = np.full(self.shape, 255, np.uint8)
        casts = sorted(self._casts, key=lambda cast: -cast[0])
        self._fill(shade, [hull for _, hull in casts], [brightness for brightness, _ in casts])
        return shade

    def _fill(
        self, target: NDArray[np.int32] | NDArray[np.uint8], polygons: Sequence[Floats], values: Sequence[int]
    ) -> None:
        """Fills polygons of the ground, (x, z) ``[n, 2]`` each, one after the other."""
        if not polygons:
            return
        points = np.concatenate(polygons)
        lifted = np.zeros((len(points), 3))
        lifted[:, ::2] = points
        ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
        if lifted[:, 2].min() < NEAR:
            parts = [clip_near(lifted[a:b]) for a, b in pairwise([0, *ends])]
            lifted = np.concatenate(parts)
            ends = np.cumsum([len(part) for part in parts]).tolist()
        drawn = self._points(lifted)
        for (a, b), value in zip(pairwise([0, *ends]), values, strict=True):
            if b - a >= 3:
                cv2.fillPoly(target, [drawn[a:b]], (float(value),))

    # ---- what stands on it ----------------------------------------------------------------------------------------

    def stand(self, sprite: Sprite, owner: int = 0) -> int:
        """Puts a sprite wherever it is nearer than what is there; the number of pixels it would cover alone."""
        corners, starts, triples, colours = sprite.ahead()
        if not colours:
            return 0
        points = self._points(corners)
        x0, y0 = np.maximum(points.min(0), 0).tolist()
        x1, y1 = np.minimum(points.max(0) + 1, self.shape[::-1]).tolist()
        if x0 >= x1 or y0 >= y1:
            return 0
        local = np.zeros((y1 - y0, x1 - x0), np.int16)
        bounds = starts.tolist()
        for k in range(len(colours)):
            cv2.fillPoly(local, [points[bounds[k] : bounds[k + 1]]], (k + 1.0,), offset=(-x0, -y0))
        first = self._add(colours, sprite.kind, owner, False)
        window = (slice(y0, y1), slice(x0, x1))
        inverse = 1 / corners[:, 2]
        low, high = np.minimum.reduceat(inverse, starts[:-1]), np.maximum.reduceat(inverse, starts[:-1])
        if low.min() == high.max():  # cards alone: one distance
            nearer = (self.inverse[window] < np.float32(low[0])) & (local > 0)
            np.copyto(self.inverse[window], np.float32(low[0]), where=nearer)
            np.copyto(self.surface[window], local + np.int32(first - 1), where=nearer)
        else:
            self._compare(local, (y0, x0), self.camera.planes(triples), (low, high), first)
        return int(np.count_nonzero(local[(1 - y0) % 2 :: 2, (1 - x0) % 2 :: 2]))

    def _compare(
        self,
        local: NDArray[np.int16],  # [h, w] face + 1, 0 = nothing
        corner: tuple[int, int],  # its row and column in the canvas
        planes: Floats,  # [K, 3]
        limits: tuple[Floats, Floats],  # [K] least and greatest 1 / z of a face: a rim point may lie outside its face
        first: int,  # surface of face 0
    ) -> None:
        rows, columns = np.nonzero(local)
        face = local[rows, columns] - np.int16(1)
        a, b, c = np.ascontiguousarray(planes.T)
        c = c + 0.5 * (corner[0] * b + corner[1] * a)
        inverse = np.take(0.5 * a, face) * columns + np.take(0.5 * b, face) * rows + np.take(c, face)
        inverse = np.clip(inverse, np.take(limits[0], face), np.take(limits[1], face))
        at = (rows + corner[0]) * self.shape[1] + (columns + corner[1])
        nearer = np.flatnonzero(inverse > np.take(self.inverse, at))
        at = at[nearer]
        self.inverse.ravel()[at] = inverse[nearer]
        self.surface.ravel()[at] = face[nearer] + np.int32(first)
