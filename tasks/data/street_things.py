"""The things of a street as flat polygons: vehicles with their keypoints, people and signs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, copysign, cos, sin

import numpy as np

from tasks.data.street_canvas import Camera, Canvas, Floats, Lamp, Sprite, cross
from tasks.data.street_scene import BUILDING, BUS, CAR, CYCLIST, SIGN, TRUCK, Colour, Light, Person, Sign, Vehicle
from tasks.data.street_scenery import scaled

KEYPOINTS = (
    "wheel_rear_left",  # where a wheel touches the ground
    "wheel_rear_right",
    "wheel_front_left",
    "wheel_front_right",
    "roof_rear_left",
    "roof_rear_right",
    "roof_front_left",
    "roof_front_right",
)
FLIP_PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))

_GLASS = (45.0, 52.0, 60.0)
_TYRE = (22.0, 22.0, 24.0)
_TAIL, _HEAD = (215.0, 25.0, 25.0), (245.0, 240.0, 205.0)
_RED, _WHITE, _BLUE, _YELLOW = (205.0, 30.0, 35.0), (240.0, 240.0, 238.0), (35.0, 80.0, 190.0), (235.0, 195.0, 40.0)
_WHEEL = 0.33  # metres
_CIRCLE = tuple((float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 13)[:-1])
_SIDES = ("rear", "front", "left", "right", "top")
# corners of a block: bit 2 = forward, bit 1 = right, bit 0 = up; all sides turn the same way
_FACES = np.array(((0, 2, 3, 1), (6, 4, 5, 7), (4, 0, 1, 5), (2, 6, 7, 3), (1, 3, 7, 5)))
_SIDE_LIGHT = np.array((1.0, 1.0, 0.85, 0.85, 1.12))


@dataclass(frozen=True)
class Pose:
    """Where a vehicle stands: turns its own (forward, right, up) metres into world (x, y, z)."""

    x: float
    z: float
    yaw: float

    def world(self, points: Sequence[Sequence[float]] | Floats) -> Floats:
        """World points ``[n, 3]`` of vehicle points ``[n, 3]``."""
        forward, right, up = np.asarray(points, dtype=np.float64).T
        out, c, s = np.empty((len(up), 3)), cos(self.yaw), sin(self.yaw)
        out[:, 0] = self.x + right * c + forward * s
        out[:, 1] = up
        out[:, 2] = self.z + forward * c - right * s
        return out


def pose_of(camera: Camera, vehicle: Vehicle, moved: float) -> Pose:
    """The pose of a vehicle that is ``moved`` metres ahead of its z of frame 0; it turns with the road."""
    z = vehicle.z + moved
    return Pose(camera.along(vehicle.x, z), z, vehicle.yaw + atan(2 * camera.bend * z))


def footprint(pose: Pose, vehicle: Vehicle) -> Floats:
    """The ground (x, z) ``[4, 2]`` under a vehicle."""
    half, wide = vehicle.length / 2, vehicle.width / 2
    return pose.world([(-half, -wide, 0), (-half, wide, 0), (half, wide, 0), (half, -wide, 0)])[:, [0, 2]]


def keypoints_of(pose: Pose, vehicle: Vehicle) -> Floats:
    """World points ``[8, 3]`` of KEYPOINTS."""
    axle, wide = 0.32 * vehicle.length, vehicle.width / 2
    rear, front, (rear_up, front_up), roof = _roof(vehicle)
    return pose.world(
        [
            *((a, w, 0.0) for a in (-axle, axle) for w in (-wide, wide)),
            *((rear, w, rear_up) for w in (-roof, roof)),
            *((front, w, front_up) for w in (-roof, roof)),
        ]
    )


def _roof(vehicle: Vehicle) -> tuple[float, float, tuple[float, float], float]:
    """Rear and front end, height at both, and half width of a roof; of a truck from its cargo to its cab."""
    length, wide, high = vehicle.length, vehicle.width / 2, vehicle.height
    if vehicle.body == "car":
        return -0.42 * length + 0.45, 0.2 * length - 0.45, (high, high), wide - 0.08
    if vehicle.kind == TRUCK:
        return -length / 2, length / 2, (_cargo_height(vehicle), _cab_height(vehicle)), wide
    return -length / 2, length / 2, (high, high), wide


def _cargo_height(vehicle: Vehicle) -> float:
    return 1.5 if vehicle.body == "flat" else vehicle.height


def _cab_height(vehicle: Vehicle) -> float:
    return min(vehicle.height, 2.9)


# ---- vehicles ------------------------------------------------------------------------------------------------------


@dataclass
class _Body:
    """A vehicle that is being put together."""

    sprite: Sprite
    pose: Pose
    eye: float  # height of the camera
    sun: tuple[float, float] | None
    lamps: bool

    def block(
        self,
        forward: tuple[float, float],
        right: tuple[float, float],
        up: tuple[float, float],
        colour: Colour,
        taper: float = 0.0,  # metres by which front and rear lean inwards
    ) -> dict[str, Floats]:
        """Draws a box; its visible sides as quads ``[4, 3]``: bottom left, bottom right, top right, top left."""
        corners = [
            (a + (taper if i == 0 else -taper) * (u == up[1]), w, u)
            for i, a in enumerate(forward)
            for w in right
            for u in up
        ]
        quads = self.pose.world(corners)[_FACES]
        inward = cross(quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 0])
        inward /= np.linalg.norm(inward, axis=1, keepdims=True)
        seen = (inward * (quads.mean(1) - (0.0, self.eye, 0.0))).sum(1) > 0
        light = _SIDE_LIGHT
        if self.sun is not None:
            light = light - 0.22 * (inward[:, 0] * self.sun[0] + inward[:, 2] * self.sun[1])
        visible = {}
        for side in np.flatnonzero(seen).tolist():
            visible[_SIDES[side]] = quads[side]
            self.sprite.face(quads[side].tolist(), scaled(colour, float(light[side])))
        return visible

    def patch(self, quad: Floats, along: tuple[float, float], up: tuple[float, float], colour: Colour) -> None:
        """Draws a rectangle of a side; ``along`` and ``up`` are shares of the side."""
        shares = [(along[0], up[0]), (along[1], up[0]), (along[1], up[1]), (along[0], up[1])]
        weights = np.array([((1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t) for s, t in shares])
        self.sprite.face((weights @ quad).tolist(), colour)


def draw_vehicle(canvas: Canvas, vehicle: Vehicle, pose: Pose, light: Light | None, owner: int, lamps: bool) -> int:
    """Puts a vehicle on the canvas as thing ``owner``; the number of pixels it would cover alone.

    ``light`` is None without a sun; with ``lamps`` its lights shine.
    """
    eye = canvas.camera.height
    body = _Body(Sprite(vehicle.kind), pose, eye, None if light is None else light.sun, lamps)
    axle, wide = 0.32 * vehicle.length, vehicle.width / 2
    wheels = [(a, w) for a in (-axle, axle) for w in (-wide, wide)]
    for forward, right in wheels:  # as seen from behind or ahead; the body hides their upper part
        inner = right - copysign(0.22, right)
        tread = [(forward, right, 0.0), (forward, inner, 0.0), (forward, inner, 0.6), (forward, right, 0.6)]
        body.sprite.face(pose.world(tread).tolist(), _TYRE)
    {CAR: _draw_car, TRUCK: _draw_truck, BUS: _draw_bus}[vehicle.kind](body, vehicle)
    for forward, right in wheels:
        across = right + pose.x * cos(pose.yaw) - pose.z * sin(pose.yaw)  # from the camera, to the vehicle's right
        if across * right < 0:  # its outer side is seen
            disc = [(forward + _WHEEL * c, right, _WHEEL + _WHEEL * s) for c, s in _CIRCLE]
            body.sprite.face(pose.world(disc).tolist(), _TYRE)
    if lamps:
        canvas.lamps += _shine(pose, vehicle)
    return canvas.stand(body.sprite, owner)


def _draw_lights(body: _Body, sides: dict[str, Floats], up: tuple[float, float]) -> None:
    for side, colour in (("rear", _TAIL), ("front", _HEAD)):
        if side in sides:
            for start in (0.04, 0.84):
                body.patch(sides[side], (start, start + 0.12), up, colour)


def _draw_car(body: _Body, car: Vehicle) -> None:
    length, wide, high = car.length, car.width / 2, car.height
    if car.body == "van":
        sides = body.block((-length / 2, length / 2), (-wide, wide), (0.28, high), car.colour)
        for side, quad in sides.items():
            if side in ("rear", "front"):
                body.patch(quad, (0.1, 0.9), (0.5, 0.86), _GLASS)
            elif side != "top":
                span = (0.04, 0.4) if side == "left" else (0.6, 0.96)
                body.patch(quad, span, (0.5, 0.86), _GLASS)
        _draw_lights(body, sides, (0.15, 0.28))
        return
    sides = body.block((-length / 2, length / 2), (-wide, wide), (0.28, 0.58 * high), car.colour)
    cabin = body.block(
        (-0.42 * length, 0.2 * length), (0.08 - wide, wide - 0.08), (0.58 * high, high), car.colour, taper=0.45
    )
    for side, quad in cabin.items():
        if side != "top":
            body.patch(quad, (0.08, 0.92), (0.1, 0.84), _GLASS)
    _draw_lights(body, sides, (0.45, 0.8))


def _draw_truck(body: _Body, truck: Vehicle) -> None:
    half, wide = truck.length / 2, truck.width / 2
    body.block((-half, half), (0.2 - wide, wide - 0.2), (0.35, 0.8), (40.0, 40.0, 42.0))
    parts = [_draw_cargo, _draw_cab]
    if cos(body.pose.yaw) * body.pose.z + sin(body.pose.yaw) * body.pose.x > 0:  # it drives away: cab first
        parts.reverse()
    for part in parts:
        part(body, truck)


def _draw_cab(body: _Body, truck: Vehicle) -> None:
    half, wide = truck.length / 2, truck.width / 2
    colour = (truck.colour[2] * 0.8, truck.colour[0] * 0.8, truck.colour[1] * 0.8)
    sides = body.block((half - 1.9, half), (-wide, wide), (0.4, _cab_height(truck)), colour)
    for side, quad in sides.items():
        if side != "top":
            body.patch(quad, (0.1, 0.9), (0.5, 0.86), _GLASS)
    _draw_lights(body, {side: quad for side, quad in sides.items() if side == "front"}, (0.08, 0.18))


def _draw_cargo(body: _Body, truck: Vehicle) -> None:
    half, wide, top = truck.length / 2, truck.width / 2, _cargo_height(truck)
    bottom = 0.7 if truck.body == "flat" else 0.85
    sides = body.block((-half, half - 2.1), (-wide, wide), (bottom, top), truck.colour)
    for side, quad in sides.items():
        if truck.body == "box" and side in ("left", "right", "rear"):
            body.patch(quad, (0.0, 1.0), (0.45, 0.55), scaled(truck.colour, 0.75))
            if side == "rear":
                body.patch(quad, (0.48, 0.52), (0.05, 1.0), scaled(truck.colour, 0.6))
        elif truck.body == "tank" and side != "top":
            for at in (0.25, 0.5, 0.75):
                body.patch(quad, (at - 0.03, at + 0.03), (0.0, 1.0), scaled(truck.colour, 0.6))
    low = 0.24 if truck.body == "flat" else 0.09
    _draw_lights(body, {side: quad for side, quad in sides.items() if side == "rear"}, (0.01, low))


def _draw_bus(body: _Body, bus: Vehicle) -> None:
    half, wide = bus.length / 2, bus.width / 2
    sides = body.block((-half, half), (-wide, wide), (0.35, bus.height), bus.colour)
    for side, quad in sides.items():
        if side in ("rear", "front"):
            body.patch(quad, (0.08, 0.92), (0.4, 0.82), _GLASS)
            body.patch(quad, (0.25, 0.75), (0.86, 0.96), (240.0, 170.0, 40.0) if body.lamps else (20.0, 20.0, 20.0))
        elif side != "top":
            for start in np.linspace(0.04, 0.84, 6).tolist():
                body.patch(quad, (start, start + 0.12), (0.42, 0.78), _GLASS)
    _draw_lights(body, sides, (0.08, 0.17))


def _shine(pose: Pose, vehicle: Vehicle) -> list[Lamp]:
    """The two lamps of each end; a lamp behind the vehicle itself is found hidden like any other."""
    half, wide = vehicle.length / 2 + 0.05, 0.4 * vehicle.width
    places = pose.world([(a, w, 0.75) for a in (-half, half) for w in (-wide, wide)]).tolist()
    colours = [(170.0, 15.0, 15.0)] * 2 + [(190.0, 185.0, 160.0)] * 2
    radii = (0.18, 0.18, 0.27, 0.27)
    return [Lamp((x, y, z), r, c) for (x, y, z), r, c in zip(places, radii, colours, strict=True) if z > 1.5]


# ---- people --------------------------------------------------------------------------------------------------------


def draw_person(canvas: Canvas, person: Person, x: float, z: float, frame: int, owner: int) -> int:
    """Puts a pedestrian or cyclist at (x, z) on the canvas; the number of pixels it would cover alone."""
    sprite = Sprite(person.kind)
    phase = person.phase + 0.9 * frame
    (_draw_cyclist if person.kind == CYCLIST else _draw_pedestrian)(sprite, person, (x, z), phase)
    return canvas.stand(sprite, owner)


def _limb(start: tuple[float, float], end: tuple[float, float], width: float) -> list[tuple[float, float]]:
    """A bar of the given width between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = width / 2 / max((dx * dx + dy * dy) ** 0.5, 1e-6)
    nx, ny = -dy * scale, dx * scale
    return [
        (start[0] + nx, start[1] + ny),
        (end[0] + nx, end[1] + ny),
        (end[0] - nx, end[1] - ny),
        (start[0] - nx, start[1] - ny),
    ]


def _oval(x: float, y: float, wide: float, high: float) -> list[tuple[float, float]]:
    return [(x + wide * c, y + high * s) for c, s in _CIRCLE]


def _draw_pedestrian(sprite: Sprite, person: Person, at: tuple[float, float], phase: float) -> None:
    (x, z), high = at, person.height
    swing = 0.16 * sin(phase) * (0.4 + 0.6 * person.slimness)
    hip, shoulder = 0.48 * high, 0.8 * high
    sprite.card(_limb((x, hip), (x - swing, 0.0), 0.17), z, person.trousers)
    sprite.card(_limb((x, hip), (x + swing, 0.0), 0.17), z, scaled(person.trousers, 0.85))
    for side in (-1, 1):
        hand = (x + side * 0.22 - side * swing, 0.45 * high)
        sprite.card(_limb((x + side * 0.2, shoulder), hand, 0.1), z, scaled(person.shirt, 0.85))
    torso = [(x - 0.21, 0.83 * high), (x + 0.21, 0.83 * high), (x + 0.17, 0.44 * high), (x - 0.17, 0.44 * high)]
    sprite.card(torso, z, person.shirt)
    sprite.card(_oval(x, 0.91 * high, 0.075 * high, 0.09 * high), z, person.head)


def _draw_cyclist(sprite: Sprite, person: Person, at: tuple[float, float], phase: float) -> None:
    (x, z), slim = at, person.slimness
    base, wheel = 0.52 * max(slim, 0.12), 0.34
    for dx in (-base, base):  # the mask of a wheel is its whole disc
        sprite.card(_oval(x + dx, wheel, wheel * max(slim, 0.2), wheel), z, (25.0, 25.0, 25.0))
        sprite.card(_oval(x + dx, wheel, 0.75 * wheel * max(slim, 0.2), 0.75 * wheel), z, (95.0, 95.0, 98.0))
    frame = [(x, 0.35), (x + base, wheel), (x + 0.7 * base, 0.95), (x - 0.1 * slim - 0.02, 0.95), (x - base, wheel)]
    sprite.card(frame, z, scaled(person.trousers, 0.9))
    foot = (x + 0.1 * slim * cos(phase), 0.28 + 0.1 * sin(phase))
    sprite.card(_limb((x - 0.05, 0.95), foot, 0.2), z, scaled(person.trousers, 0.6))
    lean = 0.28 * max(slim, 0.3)
    torso = [(x - 0.2, 0.95), (x + 0.15, 0.92), (x + lean, 1.45), (x - 0.1, 1.5)]
    sprite.card(torso, z, person.shirt)
    sprite.card(_oval(x + 0.12 * slim, 1.62, 0.12, 0.14), z, person.head)


# ---- signs ---------------------------------------------------------------------------------------------------------


def draw_sign(canvas: Canvas, sign: Sign, x: float, z: float, owner: int, night: bool) -> int:
    """Puts a plate (the thing) and its pole (part of the built world) at (x, z); the pixels the plate covers alone."""
    pole = Sprite(BUILDING)
    pole.card([(x - 0.04, 0), (x + 0.04, 0), (x + 0.04, sign.y), (x - 0.04, sign.y)], z + 0.05, (120.0, 120.0, 122.0))
    canvas.stand(pole)
    plate, y, r = Sprite(SIGN), sign.y, sign.radius
    if sign.shape == 0:
        plate.card(_oval(x, y, r, r), z, _RED)
        plate.card(_oval(x, y, 0.66 * r, 0.66 * r), z, _WHITE)
    elif sign.shape == 1:
        plate.card([(x, y + r), (x + r, y - 0.8 * r), (x - r, y - 0.8 * r)], z, _RED)
        plate.card([(x, y + 0.5 * r), (x + 0.55 * r, y - 0.5 * r), (x - 0.55 * r, y - 0.5 * r)], z, _WHITE)
    elif sign.shape == 2:
        plate.card([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], z, _BLUE)
        low, high, half = y - 0.2 * r, y + 0.2 * r, 0.55 * r
        plate.card([(x - half, low), (x + half, low), (x + half, high), (x - half, high)], z, _WHITE)
    else:
        plate.card([(x, y + 1.1 * r), (x + 1.1 * r, y), (x, y - 1.1 * r), (x - 1.1 * r, y)], z, _YELLOW)
    if night:
        canvas.lamps.append(Lamp((x, y, z - 0.05), 0.9 * r, (60.0, 60.0, 60.0)))
    return canvas.stand(plate, owner)
