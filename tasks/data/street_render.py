"""One moment of a scene: the image and its exact truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.data.street_canvas import NEAR, Camera, Canvas, Floats
from tasks.data.street_light import WEATHERS, photograph
from tasks.data.street_scene import CAR, SIGN, Scene
from tasks.data.street_scenery import (
    cast_contact,
    cast_shadow,
    draw_board,
    draw_building,
    draw_ground,
    draw_skyline,
    draw_tree,
)
from tasks.data.street_things import draw_person, draw_sign, draw_vehicle, footprint, keypoints_of, pose_of

LEAST_PIXELS, LEAST_SHARE, LEAST_SIDE = 14, 0.25, 3  # what is smaller or more hidden is not labeled as an object
_VISTA = 70.0  # metres: no thing or tree is drawn beyond
_SAME_DEPTH = 0.25  # metres from a visible keypoint to the surface that is seen there or in a pixel beside it


@dataclass(frozen=True)
class Thing:
    """One labeled thing; its pixels are ``Frame.instances == position + 1``."""

    label: int  # detection class
    box: tuple[float, float, float, float]  # xyxy, tight to its visible pixels
    distance: float  # metres along z to its middle
    visible: float  # share of its pixels inside the image that nothing hides
    keypoints: NDArray[np.float32] | None  # [8, 3] x, y, v: 2 visible, 1 hidden, 0 (and 0, 0) outside; None: no vehicle


@dataclass(frozen=True)
class Frame:
    """An image and its truth.

    A thing with fewer than 14 visible pixels, less than 25 % of its pixels visible, or a side under 3 pixels is not
    labeled as an object; ``semantic`` and ``depth`` keep it.
    """

    image: NDArray[np.uint8]  # [H, W, 3] RGB
    semantic: NDArray[np.uint8]  # [H, W] class
    instances: NDArray[np.uint8]  # [H, W] position in ``things`` + 1, 0 = none
    depth: NDArray[np.float32]  # [H, W] metres along z, NaN = sky
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class _Drawn:
    """A thing on the canvas, labeled or not."""

    kind: int
    distance: float
    alone: int  # pixels it would cover if nothing hid it
    keypoints: Floats | None  # [8, 3] world points


def render(scene: Scene, frame: int, size: tuple[int, int], rng: np.random.Generator) -> Frame:
    """Frame ``frame`` of a scene at ``size`` (H, W). ``rng`` gives the camera's shake and the sensor's noise."""
    sway, nod = rng.normal(0, (0.003, 0.004)).tolist()
    canvas = Canvas(Camera.of(scene, size, (sway, nod)), size)
    driven = scene.speed * frame
    _draw_still(canvas, scene, driven)
    drawn = _draw_things(canvas, scene, frame, driven)
    table = canvas.table()
    image = photograph(canvas, table, scene, driven, rng)
    surface, nearness = canvas.surface[1::2, 1::2], canvas.nearness()
    with np.errstate(divide="ignore"):
        depth = np.where(nearness > 0, 1 / nearness, np.float32(np.nan)).astype(np.float32)
    things, instances = _label(canvas.camera, table.owners[surface], depth, drawn)
    return Frame(image, table.kinds[surface], instances, depth, things)


def _draw_still(canvas: Canvas, scene: Scene, driven: float) -> None:
    weather = WEATHERS[scene.condition]
    light = scene.light if weather.sunny else None
    draw_ground(canvas, scene, driven)
    draw_skyline(canvas, scene)
    for building in scene.buildings:
        if building.far - driven > 2:
            draw_building(canvas, building, light, driven, weather.dark)
    for tree in scene.trees:
        if 2.5 < tree.z - driven < _VISTA:
            draw_tree(canvas, tree, light, driven)
    for board in scene.boards:
        if 2.5 < board.z - driven < _VISTA:
            draw_board(canvas, board, light, driven)


def _draw_things(canvas: Canvas, scene: Scene, frame: int, driven: float) -> list[_Drawn]:
    """Draws all things; thing k owns the surfaces with owner k + 1."""
    weather, camera = WEATHERS[scene.condition], canvas.camera
    light = scene.light if weather.sunny else None
    drawn: list[_Drawn] = []
    for vehicle in scene.vehicles:
        pose = pose_of(camera, vehicle, vehicle.speed * frame - driven)
        base = footprint(pose, vehicle)
        if base[:, 1].max() < 1.5 or pose.z > _VISTA:
            continue
        alone = draw_vehicle(canvas, vehicle, pose, light, len(drawn) + 1, weather.lamps)
        cast_contact(canvas, base)
        if light:
            cast_shadow(canvas, light, base, vehicle.height)
        drawn.append(_Drawn(vehicle.kind, pose.z, alone, keypoints_of(pose, vehicle)))
    for person in scene.people:
        z = person.z + person.speed * frame - driven
        if 2.5 < z < _VISTA:
            x = camera.along(person.x + person.drift * frame, z)
            drawn.append(_Drawn(person.kind, z, draw_person(canvas, person, x, z, frame, len(drawn) + 1), None))
            base = np.array(((x - 0.25, z - 0.12), (x + 0.25, z - 0.12), (x + 0.25, z + 0.12), (x - 0.25, z + 0.12)))
            cast_contact(canvas, base)
            if light:
                cast_shadow(canvas, light, base, person.height)
    for sign in scene.signs:
        z = sign.z - driven
        if 2.5 < z < _VISTA:
            alone = draw_sign(canvas, sign, camera.along(sign.x, z), z, len(drawn) + 1, weather.dark)
            drawn.append(_Drawn(SIGN, z, alone, None))
    return drawn


# ---- truth ---------------------------------------------------------------------------------------------------------


def _label(
    camera: Camera,
    owners: NDArray[np.int32],  # [H, W] position in ``drawn`` + 1
    depth: NDArray[np.float32],
    drawn: list[_Drawn],
) -> tuple[tuple[Thing, ...], NDArray[np.uint8]]:
    """The things that are large and visible enough, and the map of them."""
    names = np.zeros(len(drawn) + 1, np.uint8)
    things: list[Thing] = []
    for owner, place in enumerate(ndimage.find_objects(owners, max_label=len(drawn)), start=1):
        if place is None:
            continue
        thing, (rows, columns) = drawn[owner - 1], place
        pixels = int(np.count_nonzero(owners[place] == owner))
        sides = rows.stop - rows.start, columns.stop - columns.start
        if pixels < LEAST_PIXELS or pixels < LEAST_SHARE * thing.alone or min(sides) < LEAST_SIDE:
            continue
        box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
        keypoints = None
        if thing.keypoints is not None:
            keypoints = _keypoints(camera, np.where(owners == owner, depth, np.float32(np.nan)), thing.keypoints)
        things.append(Thing(thing.kind - CAR, box, thing.distance, pixels / thing.alone, keypoints))
        names[owner] = len(things)
    return tuple(things), names[owners]


def _keypoints(camera: Camera, depth: NDArray[np.float32], points: Floats) -> NDArray[np.float32]:
    """(x, y, v) ``[8, 3]`` of world points: visible where the thing's own ``depth`` (NaN elsewhere) is theirs."""
    out = np.zeros((len(points), 3), np.float32)
    height, width = depth.shape
    for index, point in enumerate(points):
        if point[2] < NEAR:
            continue
        x, y = camera.project(point).tolist()
        if 0 <= x < width and 0 <= y < height:
            row, column = int(y), int(x)
            around = depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            out[index] = (x, y, 2.0 if (np.abs(around - point[2]) < _SAME_DEPTH).any() else 1.0)
    return out
