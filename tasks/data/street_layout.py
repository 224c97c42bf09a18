"""Where things stand in a street: draws a Scene. No pixels here."""

from dataclasses import dataclass, field
from math import pi

import numpy as np

from tasks.data.street_scene import (
    BUILDING,
    BUS,
    CAR,
    CYCLIST,
    PARKING_WIDTH,
    PEDESTRIAN,
    RARE_KINDS,
    STREETS,
    TRUCK,
    VEGETATION,
    Board,
    Building,
    Colour,
    Lens,
    Light,
    Person,
    Road,
    Scene,
    Sign,
    Street,
    Tree,
    Vehicle,
)

Rng = np.random.Generator
_GREYS = (25.0, 60.0, 130.0, 200.0, 235.0)
_LIVERIES: tuple[Colour, ...] = ((200, 40, 40), (225, 190, 40), (235, 235, 235), (40, 110, 190), (60, 150, 80))
_DEPTH = 95.0  # metres of roadside that are furnished
_TRIES = 12  # places tried before a thing is left out


def draw_scene(rng: Rng, street: str, condition: str, difficulty: float) -> Scene:
    """One place of the given kind. ``difficulty`` makes rare kinds farther, darker and more often occluded."""
    kind = STREETS[street]
    road, speed = _road(rng, street, kind), float(rng.choice([0.0, 0.03, 0.15, 0.5], p=[0.25, 0.3, 0.25, 0.2]))
    setbacks = tuple(float(rng.uniform(1.8, 4.0) if walk else rng.uniform(1.5, 5.0)) for walk in road.sidewalks)
    sides = [_roadside(rng, road, side, kind.urban, setback) for side, setback in zip((-1, 1), setbacks, strict=True)]
    traffic = _Traffic(rng, road, kind.urban, difficulty, speed)
    for vehicle_kind, mean in ((BUS, kind.buses), (TRUCK, kind.trucks), (CAR, kind.cars)):
        for _ in range(rng.poisson(mean)):
            traffic.drive(vehicle_kind)
    for person_kind, mean in ((PEDESTRIAN, kind.pedestrians), (CYCLIST, kind.cyclists)):
        for _ in range(rng.poisson(mean)):
            traffic.walk(person_kind, setbacks)
    built = kind.urban > 0.6 and rng.random() < 0.6
    return Scene(
        street=street,
        condition=condition,
        lens=Lens(
            height=float(rng.uniform(1.4, 1.9)),
            focal=float(rng.uniform(1.1, 1.35)),
            centre=float(rng.uniform(0.46, 0.54)),
            horizon=float(rng.uniform(0.36, 0.47)),
        ),
        road=road,
        light=_light(rng),
        speed=speed,
        skyline=tuple(float(h) for h in 2.0 + np.abs(rng.normal(0, 4.5 if built else 3.0, 25))),
        skyline_kind=BUILDING if built else VEGETATION,
        texture=int(rng.integers(1 << 30)),
        buildings=tuple(b for side in sides for b in side.buildings),
        trees=tuple(t for side in sides for t in side.trees),
        boards=tuple(b for side in sides for b in side.boards),
        vehicles=tuple(traffic.vehicles),
        people=tuple(traffic.people),
        signs=tuple(_sign(rng, road) for _ in range(rng.poisson(kind.signs))),
    )


def _colour(rng: Rng, low: float, high: float) -> Colour:
    r, g, b = rng.uniform(low, high, 3).tolist()
    return r, g, b


def _scaled(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _road(rng: Rng, street: str, kind: Street) -> Road:
    lanes = int(rng.integers(kind.lanes[0], kind.lanes[1] + 1))
    asphalt, pavement = rng.uniform(80, 135), rng.uniform(120, 190)
    zebra = street in ("market", "transit") and rng.random() < 0.7
    left, right = (bool(x) for x in rng.random(2) < 0.55 * kind.urban)
    walk_left, walk_right = (kind.urban > 0 and bool(x) for x in rng.random(2) < 0.5 + 0.5 * kind.urban)
    return Road(
        lanes=lanes,
        lane_width=float(rng.uniform(3.0, 3.7)),
        ego=int(rng.integers(0, lanes)),
        parking=(left, right),
        sidewalks=(walk_left, walk_right),
        bend=float(rng.normal(0, 0.0016)) if rng.random() < 0.7 else 0.0,
        zebra=float(rng.uniform(7, 14)) if zebra else None,
        asphalt=(asphalt + rng.normal(0, 6), asphalt + rng.normal(0, 4), asphalt + rng.normal(0, 6)),
        pavement=(pavement + rng.uniform(0, 22), pavement + rng.uniform(-2, 10), pavement - rng.uniform(0, 18)),
        grass=(float(rng.uniform(40, 110)), float(rng.uniform(85, 150)), float(rng.uniform(25, 75))),
    )


def _light(rng: Rng) -> Light:
    angle, length = rng.uniform(0, 2 * pi), rng.uniform(0.5, 1.6)
    sun = (float(np.cos(angle)), float(np.sin(angle)))
    r, g, b = rng.uniform(0.93, 1.07, 3).tolist()
    return Light(sun, (-sun[0] * length, -sun[1] * length), gain=float(rng.uniform(0.8, 1.15)), tint=(r, g, b))


# ---- the roadside --------------------------------------------------------------------------------------------------


@dataclass
class _Side:
    buildings: list[Building] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    boards: list[Board] = field(default_factory=list)


def _roadside(rng: Rng, road: Road, side: int, urban: float, setback: float) -> _Side:
    """Houses and trees one after the other along one side, and some boards and bins."""
    row, edge, z = _Side(), road.edge(side), float(rng.uniform(-6, 4))
    while z < _DEPTH:
        if rng.random() < urban * 0.85 + 0.04:
            row.buildings.append(_building(rng, side, edge + side * (setback + rng.uniform(0, 2.5)), z))
            z = row.buildings[-1].far + float(rng.choice([0.0, 0.0, rng.uniform(1, 8)]))
        else:
            row.trees.append(_tree(rng, road, edge + side * (setback + rng.uniform(0.4, 6)), max(z, 2.0)))
            z += float(rng.uniform(2.5, 9))
    for _ in range(rng.poisson(0.35)):
        x = edge + side * (setback * 0.6 + rng.uniform(0, 2))
        width, height = rng.uniform(0.6, 2.8), rng.uniform(0.9, 3.2)
        row.boards.append(Board(float(x), float(rng.uniform(8, 45)), width, height, _colour(rng, 30, 230)))
    return row


def _building(rng: Rng, side: int, x: float, near: float) -> Building:
    length, height = rng.uniform(7, 20), rng.uniform(4, 17)
    base, (r, g, b) = rng.uniform(60, 190), _colour(rng, 70, 215)
    lit = rng.random((max(1, round(height / 3.4)), max(1, round(length / 3.6)))) < 0.4
    return Building(
        side=side,
        x=float(x),
        near=near,
        far=near + float(length),
        height=float(height),
        colour=(0.55 * r + 0.45 * base, 0.55 * g + 0.45 * base, 0.55 * b + 0.45 * base),
        glass=_colour(rng, 20, 110),
        lit=tuple(tuple(bool(window) for window in floor) for floor in lit),
    )


def _tree(rng: Rng, road: Road, x: float, z: float) -> Tree:
    height = float(rng.uniform(2.5, 8))
    blobs = zip(rng.normal(0, 0.12, 4), rng.uniform(0.5, 0.8, 4), rng.uniform(0.18, 0.3, 4), strict=True)
    crown = tuple((float(dx), float(y), float(radius)) for dx, y, radius in blobs)
    return Tree(float(x), float(z), height, _scaled(road.grass, rng.uniform(0.6, 1.15)), crown)


def _sign(rng: Rng, road: Road) -> Sign:
    side = -1 if rng.random() < 0.3 else 1
    return Sign(
        x=road.edge(side) + side * float(rng.uniform(0.4, 1.6)),
        z=float(rng.uniform(9, 24)),
        y=float(rng.uniform(2.0, 2.9)),
        radius=float(rng.uniform(0.4, 0.65)),
        shape=int(rng.integers(4)),
    )


# ---- the traffic ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    x: float
    z: float
    yaw: float
    speed: float


class _Traffic:
    """Vehicles and people that do not stand in each other, and stay clear of each other as they move."""

    def __init__(self, rng: Rng, road: Road, urban: float, difficulty: float, speed: float) -> None:
        self._rng, self._road, self._difficulty = rng, road, difficulty
        self._crossing = rng.random() < 0.12 * urban  # a junction: something crosses, all lanes wait
        self.vehicles: list[Vehicle] = []
        self.people: list[Person] = []
        self._speeds = [self._lane_speed(lane, speed) for lane in range(road.lanes)]  # one speed a lane: no collisions
        self._taken: list[tuple[float, float, float, float]] = []  # x, z and half sizes

    def _lane_speed(self, lane: int, ego_speed: float) -> float:
        if self._crossing:
            return 0.0
        if lane == self._road.ego:
            return ego_speed + float(self._rng.uniform(0, 0.05))  # never slower: the camera must not drive through it
        return float(self._rng.uniform(0, 0.5)) * (1 if self._ahead(lane) else -1)

    def _ahead(self, lane: int) -> bool:
        return lane >= self._road.lanes // 2 or lane == self._road.ego

    def _reach(self, kind: int) -> float:
        """How much farther away than a common thing this kind stands."""
        return 1 + 0.3 * self._difficulty if kind in RARE_KINDS else 1.0

    def _dull(self, kind: int, colour: Colour) -> Colour:
        return _scaled(colour, 1 / (1 + 0.35 * self._difficulty)) if kind in RARE_KINDS else colour

    def _hides(self, kind: int) -> Vehicle | None:
        """Sometimes a vehicle that a rare thing shall stand behind."""
        hidden = kind in RARE_KINDS and self._rng.random() < self._difficulty / (self._difficulty + 2)
        near = [v for v in self.vehicles if v.z < 20]
        return near[int(self._rng.integers(len(near)))] if hidden and near else None

    def drive(self, kind: int) -> None:
        """Adds one vehicle where there is room, or none."""
        rng = self._rng
        body, length, width, height = _dimensions(rng, kind)
        colour = self._dull(kind, _paint(rng, kind))
        for attempt in range(_TRIES):
            place = self._place(kind, length, attempt == 0)
            across = abs(np.sin(place.yaw)) > 0.7
            half_x, half_z = (length / 2, width / 2) if across else (width / 2, length / 2)
            if self._take(place.x, place.z, half_x, half_z):
                yaw = place.yaw + float(rng.normal(0, 0.04))
                vehicle = Vehicle(
                    kind, body, place.x, place.z, yaw, length, width, height, colour=colour, speed=place.speed
                )
                self.vehicles.append(vehicle)
                return

    def _place(self, kind: int, length: float, behind: bool) -> _Place:
        rng, road = self._rng, self._road
        if behind and (cover := self._hides(kind)):
            z = cover.z + (cover.length + length) / 2 + float(rng.uniform(1.2, 4))
            return _Place(cover.x, z, cover.yaw, cover.speed)
        z = float(rng.uniform(7, 38)) * self._reach(kind)
        strips = [side for side in (-1, 1) if road.parking[side > 0]]
        if strips and kind == CAR and rng.random() < 0.4:
            side = int(rng.choice(strips))
            x = road.border(side) + side * PARKING_WIDTH / 2 + float(rng.normal(0, 0.08))
            return _Place(x, z, 0.0 if side > 0 else pi, 0.0)
        if self._crossing and rng.random() < 0.3:
            x = float(rng.uniform(road.edge(-1), road.edge(1)))
            return _Place(x, max(z, 10.0), pi / 2 * (1 if rng.random() < 0.5 else -1) + float(rng.normal(0, 0.1)), 0.0)
        lane = int(rng.integers(0, road.lanes))
        x = road.lane(lane) + float(rng.normal(0, 0.15))
        return _Place(x, z, 0.0 if self._ahead(lane) else pi, self._speeds[lane])

    def _take(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        for other_x, other_z, other_half_x, other_half_z in self._taken:
            if abs(x - other_x) < half_x + other_half_x + 0.2 and abs(z - other_z) < half_z + other_half_z + 0.8:
                return False
        self._taken.append((x, z, half_x, half_z))
        return True

    def walk(self, kind: int, setbacks: tuple[float, ...]) -> None:
        """Adds one pedestrian or cyclist where there is room, or none."""
        rng, road = self._rng, self._road
        for attempt in range(_TRIES):
            side = -1 if rng.random() < 0.5 else 1
            verge = road.edge(side) + side * float(rng.uniform(0.3, max(0.5, min(2.2, setbacks[side > 0] - 0.3))))
            crosses = kind == PEDESTRIAN and rng.random() < 0.25
            x, z = verge, float(rng.uniform(7, 19)) * self._reach(kind)
            if crosses:
                x = float(rng.uniform(road.edge(-1), road.edge(1)))
            elif kind == CYCLIST and rng.random() < 0.75:
                x = road.border(side) - side * float(rng.uniform(0.1, 0.5))
            if attempt == 0 and (cover := self._hides(kind)):
                z = cover.z + cover.length / 2 + float(rng.uniform(0.8, 3))
                x = cover.x * z / cover.z + float(rng.uniform(-1, 1))
            if self._take(x, z, 0.3, 0.3):
                self.people.append(self._person(kind, x, z, crosses))
                return

    def _person(self, kind: int, x: float, z: float, crosses: bool) -> Person:
        rng = self._rng
        cyclist = kind == CYCLIST
        helmet = cyclist and rng.random() < 0.5
        skin = _scaled((225, 180, 150), rng.uniform(0.45, 1.05))
        return Person(
            kind=kind,
            x=x,
            z=z,
            height=1.75 if cyclist else float(rng.uniform(1.45, 1.9)),
            slimness=abs(float(np.cos(rng.uniform(0, pi)))),
            shirt=self._dull(kind, _colour(rng, 20, 220)),
            trousers=self._dull(kind, _colour(rng, 15, 130)),
            head=_colour(rng, 20, 220) if helmet else skin,
            phase=float(rng.uniform(0, 2 * pi)),
            drift=float(rng.normal(0, 0.10)) if crosses else float(rng.normal(0, 0.02)),
            speed=float(rng.normal(0, 0.12)),
        )


def _dimensions(rng: Rng, kind: int) -> tuple[str, float, float, float]:
    """body, length, width, height of a vehicle."""
    if kind == BUS:
        return "bus", float(rng.uniform(9, 13)), 2.55, float(rng.uniform(2.9, 3.4))
    if kind == TRUCK:
        body = ("box", "tank", "flat")[int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
        return body, float(rng.uniform(6, 12)), float(rng.uniform(2.2, 2.6)), float(rng.uniform(2.7, 3.9))
    van = rng.random() < 0.15
    height = rng.uniform(1.9, 2.3) if van else rng.uniform(1.38, 1.7)
    return "van" if van else "car", float(rng.uniform(3.7, 4.8)), float(rng.uniform(1.65, 1.9)), float(height)


def _paint(rng: Rng, kind: int) -> Colour:
    if kind == BUS:
        return _scaled(_LIVERIES[int(rng.integers(len(_LIVERIES)))], rng.uniform(0.75, 1.05))
    if kind == TRUCK:
        grey = float(rng.uniform(150, 235))
        return _colour(rng, 90, 235) if rng.random() < 0.5 else (grey, grey, grey)
    if rng.random() < 0.4:
        return _colour(rng, 20, 225)
    r, g, b = (float(rng.choice(_GREYS)) + rng.normal(0, 6, 3)).tolist()
    return r, g, b
