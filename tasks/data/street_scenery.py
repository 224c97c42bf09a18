"""What stands or lies still in a street: ground, skyline, houses, trees and boards, and the shadows they cast."""

import numpy as np

from tasks.data.street_canvas import CONTACT, SHADOW, Camera, Canvas, Floats, Lamp, Sprite
from tasks.data.street_scene import (
    BUILDING,
    ROAD,
    SIDEWALK,
    VEGETATION,
    Board,
    Building,
    Colour,
    Light,
    Road,
    Scene,
    Tree,
)

_BENDS = np.array([0.8, 1.5, 3, 5, 8, 12, 18, 26, 38, 55, 80, 130.0])  # distances where a bent strip has corners
_SKYLINE = 120.0  # metres
_LINE = (205.0, 205.0, 195.0)
_TRUNK = (78.0, 60.0, 45.0)
_LIT_WINDOW = (250.0, 215.0, 130.0)
_CIRCLE = tuple((float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 11)[:-1])


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour, brighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def draw_ground(canvas: Canvas, scene: Scene, ego: float) -> None:
    """Grass, sidewalks, asphalt and markings; ``ego`` metres have been driven."""
    road, camera = scene.road, canvas.camera
    canvas.plain(scaled(road.grass, 1.05))
    for side in (-1, 1):
        if road.sidewalks[side > 0]:
            edge = road.edge(side)
            canvas.ground([_strip(camera, edge - 0.1, edge + side * 30)], road.pavement, SIDEWALK)
            canvas.ground([_strip(camera, edge, edge + side * 0.22)], scaled(road.pavement, 1.18), SIDEWALK)
    canvas.ground([_strip(camera, road.edge(-1), road.edge(1))], road.asphalt, ROAD)
    lines = [_strip(camera, x - 0.07, x + 0.07) for x in (road.border(-1), road.border(1))]
    canvas.ground(lines + _dashes(camera, road, ego) + _zebra(camera, road, ego), _LINE, ROAD)


def _strip(camera: Camera, left: float, right: float) -> Floats:
    bend = camera.bend * _BENDS**2
    return np.concatenate(
        (np.stack((left + bend, _BENDS), axis=1), np.stack((right + bend, _BENDS), axis=1)[::-1]), axis=0
    )


def _tile(camera: Camera, x0: float, x1: float, z0: float, z1: float) -> Floats:
    near, far = camera.bend * z0**2, camera.bend * z1**2
    return np.array(((x0 + near, z0), (x1 + near, z0), (x1 + far, z1), (x0 + far, z1)))


def _dashes(camera: Camera, road: Road, ego: float) -> list[Floats]:
    lines = [road.lane(lane) - road.lane_width / 2 for lane in range(1, road.lanes)]
    starts = np.arange(2 - ego % 6, 45, 6).tolist()
    return [_tile(camera, x - 0.07, x + 0.07, z, z + 3) for x in lines for z in starts]


def _zebra(camera: Camera, road: Road, ego: float) -> list[Floats]:
    if road.zebra is None or road.zebra - ego < 2:
        return []
    z = road.zebra - ego
    bars = np.arange(road.edge(-1) + 0.3, road.edge(1) - 0.5, 1.0).tolist()
    return [_tile(camera, x, x + 0.5, z, z + 2.5) for x in bars]


def draw_skyline(canvas: Canvas, scene: Scene) -> None:
    """A closed row of trees or houses where the ground ends, so that no ground is infinitely far."""
    camera, heights = canvas.camera, scene.skyline
    reach = 1.05 * _SKYLINE * max(camera.centre, canvas.shape[1] / 2 - camera.centre) / camera.focal
    top = list(zip(np.linspace(reach, -reach, len(heights)).tolist(), heights, strict=True))
    sprite = Sprite(scene.skyline_kind)
    built = scene.skyline_kind == BUILDING
    colour = (140.0, 140.0, 145.0) if built else tuple(0.8 * c + 40 for c in scene.road.grass)
    sprite.card([(-reach, 0.0), (reach, 0.0), *top], _SKYLINE, (colour[0], colour[1], colour[2]))
    canvas.stand(sprite)


# ---- shadows -------------------------------------------------------------------------------------------------------


def cast_shadow(canvas: Canvas, light: Light, outline: Floats, height: float) -> None:
    """The sun's shadow of a prism over the ground ``outline`` ``[n, 2]`` (x, z)."""
    canvas.cast(np.concatenate((outline, outline + height * np.asarray(light.shadow))), SHADOW)


def cast_contact(canvas: Canvas, outline: Floats) -> None:
    """The darkness under a thing: even without a sun."""
    canvas.cast(outline, CONTACT)


def _square(x: float, z: float, half: float) -> Floats:
    return np.array(((x - half, z - half), (x + half, z - half), (x + half, z + half), (x - half, z + half)))


# ---- houses --------------------------------------------------------------------------------------------------------


def draw_building(canvas: Canvas, building: Building, light: Light | None, ego: float, dark: bool) -> None:
    """A facade along the road with its windows (some lit when it is dark), the near end wall, and the shadow."""
    camera = canvas.camera
    near, far = max(building.near - ego, 0.0), building.far - ego
    depth = building.side * 12
    front, back = camera.along(building.x, near), camera.along(building.x, far)
    sprite = Sprite(BUILDING)
    if building.near > ego:
        wall = [(front, 0, near), (front + depth, 0, near), (front + depth, building.height, near)]
        facing = 1 - 0.2 * light.sun[1] if light else 0.85
        sprite.face([*wall, (front, building.height, near)], scaled(building.colour, 0.85 * facing))
    facing = 0.9 - 0.22 * building.side * light.sun[0] if light else 0.9
    wall = [(front, 0, near), (back, 0, far), (back, building.height, far)]
    sprite.face([*wall, (front, building.height, near)], scaled(building.colour, facing))
    if near < 50:
        _draw_windows(canvas, sprite, building, ego, dark)
    canvas.stand(sprite)
    if light:
        outline = np.array(((front, near), (back, far), (back + depth, far), (front + depth, near)))
        cast_shadow(canvas, light, outline, building.height)


def _draw_windows(canvas: Canvas, sprite: Sprite, building: Building, ego: float, dark: bool) -> None:
    camera, floors, windows = canvas.camera, len(building.lit), len(building.lit[0])
    length, storey = (building.far - building.near) / windows, building.height / (floors + 0.3)
    near, far = max(building.near - ego, 0.0), building.far - ego
    slope = (camera.along(building.x, far) - camera.along(building.x, near)) / (far - near)
    for window in range(windows):
        z0 = building.near - ego + length * (window + 0.25)
        z1 = z0 + length * 0.5
        if z0 < 1.5:
            continue
        x0, x1 = (camera.along(building.x, near) + slope * (z - near) for z in (z0, z1))
        for floor in range(floors):
            y0 = storey * (floor + 0.35)
            y1 = y0 + storey * 0.5
            sprite.face([(x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)], building.glass)
            if dark and building.lit[floor][window]:
                middle = ((x0 + x1) / 2 - 0.05 * building.side, (y0 + y1) / 2, (z0 + z1) / 2)
                canvas.lamps.append(Lamp(middle, 0.2 * storey, scaled(_LIT_WINDOW, 0.5)))


# ---- trees and boards ----------------------------------------------------------------------------------------------


def draw_tree(canvas: Canvas, tree: Tree, light: Light | None, ego: float) -> None:
    """A trunk and the blobs of its crown, flat towards the camera."""
    z = tree.z - ego
    x, height = canvas.camera.along(tree.x, z), tree.height
    sprite = Sprite(VEGETATION)
    trunk, top = 0.03 * height + 0.05, 0.6 * height
    sprite.card([(x - trunk, 0), (x + trunk, 0), (x + trunk, top), (x - trunk, top)], z, _TRUNK)
    lit = 1 + (0.15 if light else 0.05)
    for index, (dx, y, radius) in enumerate(tree.crown):
        rim = [(x + height * (dx + radius * c), height * (y + radius * s)) for c, s in _CIRCLE]
        sprite.card(rim, z, scaled(tree.colour, lit - 0.12 * (index % 3)))
    canvas.stand(sprite)
    if light:
        crown = _square(x, z, 0.22 * height) + 0.55 * height * np.asarray(light.shadow)
        cast_shadow(canvas, light, crown, 0.3 * height)


def draw_board(canvas: Canvas, board: Board, light: Light | None, ego: float) -> None:
    """A plain board or bin: built, but no thing."""
    z = board.z - ego
    x, half = canvas.camera.along(board.x, z), board.width / 2
    foot = 0.0 if board.height < 1.6 else 0.4 * board.height
    sprite = Sprite(BUILDING)
    if foot:
        sprite.card([(x - 0.06, 0), (x + 0.06, 0), (x + 0.06, foot), (x - 0.06, foot)], z, (95.0, 95.0, 98.0))
    corners = [(x - half, foot), (x + half, foot), (x + half, board.height), (x - half, board.height)]
    sprite.card(corners, z, board.colour)
    sprite.card([(a, foot + 0.82 * (b - foot)) for a, b in corners[:2]] + corners[2:], z, scaled(board.colour, 0.75))
    canvas.stand(sprite)
    outline = np.array(((x - half, z), (x + half, z), (x + half, z + 0.3), (x - half, z + 0.3)))
    cast_contact(canvas, outline)
    if light:
        cast_shadow(canvas, light, outline, board.height)
