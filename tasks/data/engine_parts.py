"""Synthetic RGB-D scenes of engine parts: boxes, outlines, keypoints and depth of rocker arms, gears and bolts.

An embedded stand-in for the diesel engine of the paper on combined annotation (195 images with polygons and keypoints,
whose rocker arms lie right or wrong). Half of the rocker arms point their outer side along the reference direction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, radians
from pathlib import Path

import numpy as np
import shapely

from tasks.classes import ClassMap
from tasks.data.engine_parts_scene import WIDE, Placed, Scene, View, draw_scene, render, rings
from tasks.data.engine_parts_shapes import NAMES, SHAPES
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.tabletop import write_maps
from tasks.geometry import mask_box, rle_of_mask
from tasks.seeding import rng_of

POINTS = tuple(f"{kind}.{name}" for kind, shape in SHAPES.items() for name in shape.points)
SKELETON = ((0, 1), (1, 2), (3, 4))
_NARROWEST = 48  # px
_LOWEST = 14.0  # cm of the table that the image's height shows at least
_MOST = 12  # parts: more find no room
_STEEPEST = 80.0  # degrees off the reference direction: nearer to 90 right and wrong are alike
_SLIVER = 0.5  # px^2: a part of an outline that is smaller is not labeled


@dataclass(frozen=True)
class EngineParts:
    """The adapter. Every file is a pure function of seed, split, number of the image, size and the knobs below.

    An object is labeled with polygons of what is visible of it; with a mask where that has a hole (gears). Rocker arms
    and bolts have keypoints, each kind its own; one that another part hides is labeled as hidden.
    """

    images: int = 400  # of the pool ("train")
    validation: int = 40  # "val"
    test: int = 120
    size: tuple[int, int] = (96, 128)  # H, W
    seed: int = 0
    objects: tuple[int, int] = (2, 6)  # parts of an image, fewest and most; one at least is a rocker arm
    reference: float = -90.0  # degrees from x towards y: where the outer side of a correct arm points; -90 is up
    spread: float = 60.0  # degrees: by how much an arm is off that direction (a wrong one: off the opposite) at most
    holes: float = 1.0  # how much of the depth is missing; 0 = nothing

    def __post_init__(self) -> None:
        for name in ("images", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"EngineParts.{name} is {getattr(self, name)}; expected at least 1 image")
        if len(self.size) != 2 or min(self.size) < _NARROWEST or WIDE * self.size[0] / self.size[1] < _LOWEST:
            raise ValueError(
                f"EngineParts.size is {self.size}; expected (height, width) of {_NARROWEST} or more each, the height "
                f"at least {_LOWEST / WIDE:.2f} of the width, as (96, 128)"
            )
        if not 1 <= self.objects[0] <= self.objects[1] <= _MOST:
            raise ValueError(
                f"EngineParts.objects is {self.objects}; expected the fewest and the most, from 1 to {_MOST}"
            )
        if not isfinite(self.reference):
            raise ValueError(f"EngineParts.reference is {self.reference}; expected degrees, as -90 for upwards")
        if not 0 <= self.spread <= _STEEPEST:
            raise ValueError(f"EngineParts.spread is {self.spread}; expected 0 to {_STEEPEST:g} degrees")
        if not (isfinite(self.holes) and self.holes >= 0):
            raise ValueError(f"EngineParts.holes is {self.holes}; expected a number of 0 or more")

    def classes(self) -> ClassMap:
        """Three kinds of parts; the keypoints of two of them. No classes of pixels."""
        return ClassMap(NAMES, (), (-1,) * len(NAMES), POINTS, (), SKELETON)

    def semantic_lut(self) -> tuple[int, ...]:
        """No value is a class: there are no semantic maps."""
        return (-1,) * 255 + (255,)

    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {"train": self.images, "val": self.validation, "test": self.test}

    def scene(self, split: str, index: int) -> Scene:
        """What lies in an image, with the truth of each part's placement."""
        rng, height = rng_of("engine_parts", self.seed, split, index, "scene"), WIDE * self.size[0] / self.size[1]
        return draw_scene(rng, height, self.objects, radians(self.reference), radians(self.spread))

    def view(self, split: str, index: int) -> View:
        """An image and its depth; ``instances`` are exact."""
        rng = rng_of("engine_parts", self.seed, split, index, "camera")
        return render(self.scene(split, index), self.size, rng, self.holes)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of every split, written to ``images/`` and ``depth/`` under ``folder``; all are made anew."""
        for split, count in self.counts().items():
            for index in range(count):
                scene, view, id = self.scene(split, index), self.view(split, index), f"{split}-{index:06d}"
                uris = write_maps(folder, id, {"images": view.image, "depth": view.depth})
                objects = tuple(self._objects(scene, view))
                yield Record(id, uris["images"], self.size, split, id, objects, None, uris["depth"])

    def _objects(self, scene: Scene, view: View) -> Iterator[ObjectRecord]:
        """The labels, in pixels: of all that is visible."""
        pixel = self.size[1] / WIDE
        for index, (part, visible) in enumerate(zip(scene.parts, scene.visible(), strict=True)):
            shown = shapely.transform(visible, lambda xy: np.round(xy * pixel, 3))
            shown = shapely.multipolygons([p for p in shapely.get_parts(shown) if p.area >= _SLIVER])
            label, points = NAMES.index(part.kind), _keypoints(part, visible, pixel)
            polygons = rings(shown)
            if polygons is not None:
                outline = tuple(tuple(one) for one in polygons)
                yield ObjectRecord(shown.bounds, label, polygons=outline, keypoints=points)
                continue
            mask = view.instances == index + 1
            box = mask_box(mask)
            assert box is not None, f"{part.kind} has no pixel"
            yield ObjectRecord(box, label, rle=rle_of_mask(mask), keypoints=points)


def _keypoints(part: Placed, visible: object, pixel: float) -> tuple[float, ...]:
    """The keypoints of a part among all of them, flat; () where its kind has none."""
    own = SHAPES[part.kind].points
    if not own:
        return ()
    flat = [0.0] * (3 * len(POINTS))
    for name, (x, y) in zip(own, part.points, strict=True):
        at = 3 * POINTS.index(f"{part.kind}.{name}")
        is_visible = bool(shapely.contains_xy(visible, x, y))
        flat[at : at + 3] = round(x * pixel, 3), round(y * pixel, 3), 2.0 if is_visible else 1.0
    return tuple(flat)
