"""What a synthetic street holds: classes, kinds of street, conditions, the parts of a scene, and the plan of a split.

World axes: x metres to the right, y up from the ground, z ahead. The camera stands at x = 0 in the middle of its lane.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.seeding import rng_of

SEGMENTATION = (
    "road",
    "sidewalk",
    "building",  # and what else is built and stands: boards, bins, the poles of signs
    "vegetation",
    "sky",
    "car",
    "truck",
    "bus",
    "pedestrian",
    "cyclist",
    "sign",  # the plate, without its pole
)
ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, CAR, TRUCK, BUS, PEDESTRIAN, CYCLIST, SIGN = range(len(SEGMENTATION))
RARE_KINDS = (TRUCK, BUS, CYCLIST)  # what ``rare_difficulty`` makes harder

Colour = tuple[float, float, float]  # RGB, 0..255 (a little more is cut off at the end)


@dataclass(frozen=True)
class Street:
    """A kind of street: its share of the pool's images, how long its sequences are and how much stands there."""

    share: float
    frames: tuple[int, int]  # shortest and longest sequence at redundancy 1
    lanes: tuple[int, int]
    urban: float  # 0..1: buildings, sidewalks and parked cars against trees
    cars: float  # mean counts of a scene
    trucks: float
    buses: float
    pedestrians: float
    cyclists: float
    signs: float


# Common streets are long and plain, rare ones short and full: the redundancy and the tail that selection can exploit.
STREETS = {
    "highway": Street(0.30, (10, 18), (3, 4), 0.0, 2.2, 0.10, 0.0, 0.0, 0.0, 0.5),
    "suburb": Street(0.26, (6, 12), (2, 3), 0.5, 3.5, 0.08, 0.03, 0.5, 0.06, 0.9),
    "urban": Street(0.20, (3, 6), (2, 3), 1.0, 4.5, 0.20, 0.10, 2.2, 0.25, 1.2),
    "market": Street(0.10, (1, 3), (1, 2), 1.0, 2.5, 0.15, 0.10, 5.0, 2.2, 1.2),
    "industry": Street(0.08, (1, 3), (2, 3), 0.6, 2.0, 2.4, 0.05, 0.5, 0.15, 1.0),
    "transit": Street(0.06, (1, 2), (2, 4), 0.9, 2.0, 0.25, 2.4, 2.0, 0.3, 0.8),
}
CONDITIONS = {"clear": 0.58, "overcast": 0.16, "dusk": 0.07, "rain": 0.07, "fog": 0.05, "night": 0.07}  # image shares
RARE_CONDITIONS = ("dusk", "rain", "fog", "night")  # their sequences are half as long


# ---- the parts of a scene ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lens:
    """Where the camera looks from, relative to the image, so that a scene has no resolution."""

    height: float  # metres above the ground
    focal: float  # share of the image's width
    centre: float  # share of the width
    horizon: float  # share of the image's height


@dataclass(frozen=True)
class Road:
    """Lanes side by side, bending as x + bend * z²."""

    lanes: int
    lane_width: float
    ego: int  # the camera's lane, 0 = leftmost
    parking: tuple[bool, bool]  # a strip for parked cars at the left and right
    sidewalks: tuple[bool, bool]
    bend: float  # 1 / metre
    zebra: float | None  # distance of a pedestrian crossing
    asphalt: Colour
    pavement: Colour
    grass: Colour

    def lane(self, index: int) -> float:
        """The x of a lane's middle."""
        return (index - self.ego) * self.lane_width

    def border(self, side: int) -> float:
        """The x where the lanes end, at the left (-1) or right (1)."""
        return self.lane(self.lanes - 1 if side > 0 else 0) + side * self.lane_width / 2

    def edge(self, side: int) -> float:
        """The x where the asphalt ends: the border and the parking strip beyond it."""
        return self.border(side) + side * PARKING_WIDTH * self.parking[side > 0]


PARKING_WIDTH = 2.2  # metres


@dataclass(frozen=True)
class Light:
    sun: tuple[float, float]  # x, z: towards the sun on the ground; brightens what faces it
    shadow: tuple[float, float]  # x, z metres of shadow for each metre of height
    gain: float
    tint: Colour  # factors near 1


@dataclass(frozen=True)
class Vehicle:
    kind: int  # CAR, TRUCK or BUS
    body: str  # car van | box tank flat | bus
    x: float
    z: float
    yaw: float  # radians, 0 = drives away from the camera
    length: float
    width: float
    height: float
    colour: Colour
    speed: float  # metres a frame along z


@dataclass(frozen=True)
class Person:
    kind: int  # PEDESTRIAN or CYCLIST
    x: float
    z: float
    height: float
    slimness: float  # 0..1: |cos| of the heading, 1 = seen from the side
    shirt: Colour
    trousers: Colour
    head: Colour
    phase: float  # of the stride, radians
    drift: float  # metres a frame along x
    speed: float  # and along z


@dataclass(frozen=True)
class Sign:
    x: float
    z: float
    y: float  # the height of its middle
    radius: float
    shape: int  # 0 disc, 1 triangle, 2 square, 3 diamond


@dataclass(frozen=True)
class Building:
    side: int  # -1 left, 1 right of the road
    x: float  # of the facade
    near: float  # z where it begins
    far: float
    height: float
    colour: Colour
    glass: Colour
    lit: tuple[tuple[bool, ...], ...]  # [floors][windows]: lit at night


@dataclass(frozen=True)
class Tree:
    x: float
    z: float
    height: float
    colour: Colour
    crown: tuple[tuple[float, float, float], ...]  # x, y, radius of its blobs, in heights


@dataclass(frozen=True)
class Board:
    """A billboard or bin: it looks like a thing and is none."""

    x: float
    z: float
    width: float
    height: float
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """Everything about a place but the moment; frame t is the same place t steps later."""

    street: str
    condition: str
    lens: Lens
    road: Road
    light: Light
    speed: float  # metres a frame: the camera's own
    skyline: tuple[float, ...]  # heights in metres, left to right, far away
    skyline_kind: int  # BUILDING or VEGETATION
    texture: int  # where the surfaces' noise begins
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    boards: tuple[Board, ...]
    vehicles: tuple[Vehicle, ...]
    people: tuple[Person, ...]
    signs: tuple[Sign, ...]


# ---- the plan of a split -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One image to be made: frame ``frame`` of sequence ``sequence``, and what kind of scene that is."""

    sequence: int
    frame: int
    street: str
    condition: str


def plan(split: str, count: int, seed: int, redundancy: float, tail: float) -> Iterator[Shot]:
    """Yields ``count`` shots; a shorter plan is the beginning of a longer one.

    ``redundancy`` multiplies the lengths of the sequences (0 = one frame each). ``tail`` 0 keeps the shares of STREETS
    and CONDITIONS, 1 makes both uniform. Shares are of images: a kind with long sequences begins fewer of them.
    """
    kinds = [(street, condition) for street in STREETS for condition in CONDITIONS]
    weights = np.array([_begins(street, condition, redundancy, tail) for street, condition in kinds])
    weights /= weights.sum()
    made = sequence = 0
    while made < count:
        rng = rng_of("streets", seed, split, "plan", sequence)
        street, condition = kinds[int(rng.choice(len(kinds), p=weights))]
        frames = int(rng.choice(_lengths(street, condition, redundancy)))
        for frame in range(min(frames, count - made)):
            yield Shot(sequence, frame, street, condition)
        made += frames
        sequence += 1


def _lengths(street: str, condition: str, redundancy: float) -> NDArray[np.int64]:
    """The equally likely lengths of a kind's sequences."""
    shortest, longest = STREETS[street].frames
    halved = 0.5 if condition in RARE_CONDITIONS else 1.0
    lengths = np.rint(np.arange(shortest, longest + 1) * redundancy * halved)
    frames: NDArray[np.int64] = np.maximum(lengths, 1).astype(np.int64)
    return frames


def _begins(street: str, condition: str, redundancy: float, tail: float) -> float:
    """How often a sequence of this kind begins, up to a factor."""
    streets = {name: kind.share ** (1 - tail) for name, kind in STREETS.items()}
    conditions = {name: share ** (1 - tail) for name, share in CONDITIONS.items()}
    share = streets[street] / sum(streets.values()) * conditions[condition] / sum(conditions.values())
    return float(share / _lengths(street, condition, redundancy).mean())
