"""One image of a manifest as pictures: its objects, its semantic map, its depth, and what a network found beside them.

What cannot be read becomes a sentence in the place of its picture.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.drawing import (
    Pixels,
    Rgb,
    Shape,
    Tile,
    colors_of,
    draw_classes,
    draw_depth,
    draw_shapes,
    resized,
)
from orchestrator.gallery import boxes_found, map_found
from tasks.classes import ClassMap
from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.files import Place
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.s3 import AT_FAULT
from tasks.data.samples import class_ids
from tasks.geometry import mask_of_rle, resize_nearest
from tasks.types import Detections, Prediction, SegMap

OF_OBJECTS = ("detection", "instances", "keypoints")  # drawn in one picture
TASKS = (*OF_OBJECTS, "segmentation", "depth")
STRANGE: Rgb = (110, 110, 110)  # of an object whose class is not known


@dataclass(frozen=True)
class Fault:
    """What stands in the place of a picture that cannot be drawn."""

    caption: str
    sentence: str
    size: tuple[int, int]  # width, height that the picture would have


@dataclass(frozen=True)
class Drawn:
    """An image with its labels, as pictures."""

    record: Record
    tiles: tuple[Tile | Fault, ...]
    facts: tuple[str, ...]  # what is labeled, in words
    objects: Mapping[str, int]  # how many of each class, crowds apart
    pixels: NDArray[np.int64] | None  # [K] how many of each class; None = no map was read


@dataclass(frozen=True)
class Artist:
    """Draws the records of one manifest."""

    base: Place
    classes: ClassMap
    lut: tuple[int, ...]
    tasks: Collection[str]  # of TASKS
    width: int  # of a picture

    def draw(self, record: Record, tasks: Collection[str] | None = None, found: Prediction | None = None) -> Drawn:
        """The pictures of a record; ``tasks``: the labels it has (None: all that are there); ``found``: predictions.

        Boxes of ``found`` are shares of the image's width and height. Errors of object storage as a whole go on.
        """
        record = _only(record, tasks)
        size = self._size(record)
        try:
            picture = resized(_of_size(read_image(record.uri, self.base), record.uri, record.size), size)
        except AT_FAULT:
            raise
        except (OSError, ValueError) as error:
            return Drawn(record, (Fault("image", _one_line(error), size),), ("not readable",), {}, None)
        tiles: list[Tile | Fault] = []
        facts: list[str] = []
        pixels: NDArray[np.int64] | None = None
        objects = self._objects(record)
        if any(task in self.tasks for task in OF_OBJECTS):
            tiles.append(self._objects_tile(record, picture, facts))
        if "segmentation" in self.tasks and self.classes.segmentation:
            tile, pixels = self._map_tile(record, picture)
            tiles += tile
            facts += [] if tile else ["no label of pixels"]
        if "depth" in self.tasks and record.depth is not None:
            tiles.append(_tried("depth", size, lambda: self._depth_tile(record, picture)))
        tiles += self._found(picture, found)
        return Drawn(record, tuple(tiles or [Tile("image", picture)]), tuple(facts), objects, pixels)

    def _size(self, record: Record) -> tuple[int, int]:
        """Width and height of a picture: as wide or as high as was asked for, at most four times the image."""
        height, width = (max(1, side) for side in record.size)
        scale = min(self.width / width, self.width / height, 4.0)
        return max(1, round(width * scale)), max(1, round(height * scale))

    # ---- objects ----

    def _objects(self, record: Record) -> dict[str, int]:
        return dict(Counter(self._name(one) for one in record.objects or () if not one.crowd))

    def _name(self, one: ObjectRecord) -> str:
        names = self.classes.detection
        return names[one.label] if 0 <= one.label < len(names) else "unknown class"

    def _objects_tile(self, record: Record, picture: Pixels, facts: list[str]) -> Tile:
        if record.objects is None:
            if self.classes.detection:
                facts.append("no label of objects")
            return Tile("image", picture)
        counts = Counter(self._name(one) + (", group" if one.crowd else "") for one in record.objects)
        facts.append(", ".join(f"{n} {name}" for name, n in counts.most_common()) or "labeled: no object is there")
        shapes, lost = [], 0
        for one in record.objects:
            try:
                shapes.append(self._shape(one, record.size, (picture.shape[1], picture.shape[0])))
            except ValueError:
                lost += 1
        if lost:
            facts.append(f"{lost} cannot be drawn: a box or a mask is not what the format says")
        skeleton = self.classes.skeleton if "keypoints" in self.tasks else ()
        return Tile("objects", draw_shapes(picture, shapes, skeleton, self.classes.keypoints), self._legend(record))

    def _legend(self, record: Record) -> tuple[tuple[str, Rgb], ...]:
        return tuple({self._name(one): self._color(one) for one in record.objects or ()}.items())

    def _color(self, one: ObjectRecord) -> Rgb:
        colors = colors_of(self.classes)[0]
        return colors[one.label] if 0 <= one.label < len(colors) else STRANGE

    def _shape(self, one: ObjectRecord, stored: tuple[int, int], size: tuple[int, int]) -> Shape:
        """An object in pixels of a picture of width, height. ValueError for one that cannot be drawn."""
        x, y = size[0] / max(1, stored[1]), size[1] / max(1, stored[0])
        box = (one.box[0] * x, one.box[1] * y, one.box[2] * x - 1, one.box[3] * y - 1)
        if not all(map(math.isfinite, box)):
            raise ValueError("a box is not finite")
        first, last = (min(box[0], box[2]), min(box[1], box[3])), (max(box[0], box[2]), max(box[1], box[3]))
        mask: NDArray[np.bool_] | None = None
        points: tuple[tuple[float, float, int], ...] = ()
        if "instances" in self.tasks:
            mask = _mask(one, stored, size)
        if "keypoints" in self.tasks:
            flat = np.reshape(np.array(one.keypoints, np.float64), (-1, 3)) if len(one.keypoints) % 3 == 0 else ()
            points = tuple((px * x, py * y, int(v)) for px, py, v in flat if math.isfinite(px + py))
        return Shape(self._name(one), self._color(one), (*first, *last), mask, points, one.crowd)

    # ---- maps ----

    def _map_tile(self, record: Record, picture: Pixels) -> tuple[list[Tile | Fault], NDArray[np.int64] | None]:
        uri = record.segmentation
        if uri is None:
            return [], None
        names, colors = self.classes.segmentation, colors_of(self.classes)[1]
        counted: list[NDArray[np.int64]] = []

        def drawn() -> Tile:
            values = _of_size(read_semantic(uri, self.base), uri, record.size)
            labels = class_ids(values, self.lut, uri)
            counts = np.bincount(labels.ravel(), minlength=256)[: len(names)]
            counted.append(counts)
            legend = [(names[i], colors[i]) for i in np.argsort(-counts, kind="stable") if counts[i]]
            return Tile("classes of pixels", draw_classes(picture, labels, colors, names), tuple(legend))

        tile = _tried("classes of pixels", (picture.shape[1], picture.shape[0]), drawn)
        return [tile], counted[0] if counted else None

    def _depth_tile(self, record: Record, picture: Pixels) -> Tile:
        uri = record.depth or ""
        drawn, words = draw_depth(picture, _of_size(read_depth(uri, self.base), uri, record.size))
        return Tile("depth", drawn, span=f": {words}")

    # ---- predictions ----

    def _found(self, picture: Pixels, found: Prediction | None) -> list[Tile]:
        tiles = []
        for output in found.outputs.values() if found is not None else ():
            if isinstance(output, Detections):
                sides = torch.tensor([picture.shape[1], picture.shape[0]] * 2, dtype=torch.float32)
                tiles.append(boxes_found(picture, replace(output, boxes=output.boxes * sides), self.classes, 1.0))
            elif isinstance(output, SegMap):
                tiles.append(map_found(picture, output, self.classes))
        return [replace(tile, caption=f"predicted {tile.caption}") for tile in tiles]


def _only(record: Record, tasks: Collection[str] | None) -> Record:
    """The record with the labels of these tasks alone."""
    if tasks is None:
        return record
    return replace(
        record,
        objects=record.objects if any(task in tasks for task in OF_OBJECTS) else None,
        segmentation=record.segmentation if "segmentation" in tasks else None,
        depth=record.depth if "depth" in tasks else None,
    )


def _mask(one: ObjectRecord, stored: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask of an object on a picture of width, height; ValueError where it is broken."""
    if one.rle is not None:
        mask = mask_of_rle(one.rle)
        if mask.shape != tuple(stored):
            raise ValueError("a mask is of another size than its image")
        return resize_nearest(mask, (size[1], size[0]))
    if not one.polygons:
        return None
    scale = np.array([size[0] / stored[1], size[1] / stored[0]])
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for part in one.polygons:
        if len(part) < 6 or len(part) % 2 or not np.isfinite(part).all():
            raise ValueError("a polygon is not whole")
        corners = np.reshape(np.array(part, np.float64), (-1, 2)) * scale - 0.5  # cv2 counts from centres of pixels
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], (1,), shift=4)
    return canvas.astype(bool)


def _tried(caption: str, size: tuple[int, int], draw: Callable[[], Tile]) -> Tile | Fault:
    try:
        return draw()
    except AT_FAULT:
        raise
    except (OSError, ValueError) as error:
        return Fault(caption, _one_line(error), size)


def _of_size(pixels: Any, uri: str, size: tuple[int, int]) -> Any:
    """The pixels, where they are of the size that is listed; ValueError else."""
    if pixels.shape[:2] != tuple(size):
        raise ValueError(
            f"{uri}: is {pixels.shape[0]} x {pixels.shape[1]} px (H x W); expected {size[0]} x {size[1]}, as it is "
            "listed: correct the file or the list"
        )
    return pixels


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
