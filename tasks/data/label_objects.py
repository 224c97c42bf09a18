"""Which shapes are one object, and which keypoints belong to it.

What people linked comes first (a parent region, a relation, an equal number of ``group``); the rest is decided by
geometry: that is all there is in JSON-MIN, which keeps no ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tasks.data.label_config import KeypointLabel, LabelSchema
from tasks.data.label_regions import LeftOut, Region, Regions
from tasks.geometry import (
    Size,
    Window,
    mask_distance,
    mask_of_rle,
    polygon_area,
    polygon_distance,
    rle_of_mask,
    rle_of_polygons,
)

SAME_BOX = 0.9  # IoU from which on a rectangle is the box of a polygon
FORBIDDEN = 1e9


@dataclass
class LabeledObject:
    """One object, in pixels."""

    label: str
    shapes: list[Region]  # its polygons and brushes, in their order
    box: Region | None  # the rectangle that was drawn around it
    keypoints: dict[str, tuple[float, float, int]] = field(default_factory=dict)  # label -> x, y, v

    @property
    def regions(self) -> list[Region]:
        """Its polygons and brushes, and its rectangle."""
        return [*self.shapes, *([self.box] if self.box else [])]

    @property
    def is_crowd(self) -> bool:
        return self.regions[0].is_crowd

    @property
    def bounds(self) -> Window:
        """The outer bounds of its polygons and brushes; of the rectangle, where there is nothing else."""
        return _union([one.bounds for one in self.shapes] or [self._box.bounds])

    @property
    def _box(self) -> Region:
        assert self.box is not None, "an object without a shape"
        return self.box

    def area(self) -> float:
        """Square pixels: of its polygons by the shoelace formula, of a mask its pixels, else of its rectangle."""
        if any(one.mask is not None for one in self.shapes):
            return float(self.mask().sum())
        return sum(polygon_area(one.points) for one in self.shapes or [self._box])

    def distance(self, x: float, y: float) -> float:
        """Pixels from a point to the object: 0 inside and on its outline."""
        return min(
            polygon_distance(one.points, x, y) if one.mask is None else mask_distance(one.mask, x, y)
            for one in self.shapes or [self._box]
        )

    def mask(self) -> NDArray[np.bool_]:
        """The union ``[H, W]`` of its brushes and polygons; for objects that have a brush."""
        masks = [one.mask for one in self.shapes if one.mask is not None]
        polygons = [one.points.ravel().tolist() for one in self.shapes if one.mask is None]
        if polygons:
            masks.append(mask_of_rle(rle_of_polygons(polygons, (masks[0].shape[0], masks[0].shape[1]))))
        united: NDArray[np.bool_] = np.logical_or.reduce(masks)
        return united


def objects_of(regions: Regions, schema: LabelSchema, task: str) -> tuple[list[LabeledObject], list[LeftOut]]:
    """The objects of one task in the order in which their first shapes were drawn, and what is left over."""
    left_out = list(regions.left_out)
    unknown = [one for one in regions.shapes if one.kind != "keypoint" and one.label not in schema.classes]
    unknown += [one for one in regions.shapes if one.kind == "keypoint" and not schema.of(one.label)]
    for one in unknown:
        known = schema.classes if one.kind != "keypoint" else [point.label for point in schema.keypoints]
        left_out.append(_left(task, one, f"has the label {one.label!r}; expected one of {', '.join(known)}: rename it"))
    shapes = [one for one in regions.shapes if one.kind != "keypoint" and one not in unknown]
    points = [one for one in regions.shapes if one.kind == "keypoint" and one not in unknown]
    roots = _Links(regions)
    objects = _linked(shapes, roots)
    objects = _boxed(objects, many_parts=regions.groups is None)
    order = {one.name: i for i, one in enumerate(shapes)}
    objects.sort(key=lambda one: min(order[shape.name] for shape in one.regions))
    left_out += _give_keypoints(objects, points, schema, roots, task)
    return objects, left_out


def annotation_of(
    one: LabeledObject, category: Mapping[str, Any], points: Sequence[KeypointLabel], size: Size
) -> dict[str, Any]:
    """The annotation of an object of an image of H, W, without its ids."""
    x1, y1, x2, y2 = one.bounds
    segmentation: Any = [shape.points.ravel().tolist() for shape in one.shapes]
    if any(shape.mask is not None for shape in one.shapes):
        segmentation = {"size": list(size), "counts": _text(rle_of_mask(one.mask())["counts"])}
    elif one.box is not None and not one.shapes and not one.box.is_upright:
        segmentation = [one.box.points.ravel().tolist()]
    found: dict[str, Any] = {
        "category_id": category["id"],
        "segmentation": segmentation,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": one.area(),
        "iscrowd": int(one.is_crowd),
    }
    if points:
        flat = [value for point in points for value in one.keypoints.get(point.label, (0.0, 0.0, 0))]
        found |= {"keypoints": flat, "num_keypoints": sum(v > 0 for v in flat[2::3])}
    if one.shapes and one.box is not None:
        bx1, by1, bx2, by2 = one.box.bounds
        found["ls_box"] = [bx1, by1, bx2 - bx1, by2 - by1]
    return {**found, "source": "human", "ls_region_id": (one.box or one.shapes[0]).name}


def _text(counts: object) -> str:
    assert isinstance(counts, bytes)
    return counts.decode("ascii")


# ---- which shapes are one object ------------------------------------------------------------------------------------


class _Links:
    """Regions that people linked, by their names."""

    def __init__(self, regions: Regions) -> None:
        self._up: dict[str, str] = {}  # shape -> another shape of the same object
        self._owner: dict[str, str] = {}  # keypoint -> a shape of its object
        shapes = {one.name: one for one in regions.shapes if one.kind != "keypoint"}
        points = {one.name: one for one in regions.shapes if one.kind == "keypoint"}
        for one in regions.shapes:
            if one.parent in shapes:
                self._link(one.name, one.parent, shapes, points)
        for a, b, is_same in regions.links:
            if b in points or (is_same and a in shapes):
                a, b = b, a
            if b in shapes and (a in points or (is_same and a in shapes)):
                self._link(a, b, shapes, points)
        numbered: dict[tuple[str, str], str] = {}
        for name, number in (regions.groups or {}).items():
            if name in shapes:
                self._link(name, numbered.setdefault((number, shapes[name].label), name), shapes, points)
        for name, number in (regions.groups or {}).items():
            own = [shape for (other, _), shape in numbered.items() if other == number]
            if name in points and len(own) == 1:
                self._link(name, own[0], shapes, points)

    def root(self, name: str) -> str:
        """The name of the shape that stands for all that is linked with a region; its own, where nothing is."""
        name = self._owner.get(name, name)
        while name in self._up:
            name = self._up[name]
        return name

    def _link(self, name: str, shape: str, shapes: Mapping[str, Region], points: Mapping[str, Region]) -> None:
        """What was linked first holds. A shape in one of another class (a plate on a car) is an object of its own."""
        if name in points:
            self._owner.setdefault(name, shape)
        elif shapes[name].label == shapes[shape].label and self.root(name) != self.root(shape):
            self._up[self.root(name)] = self.root(shape)


def _linked(shapes: Sequence[Region], links: _Links) -> list[LabeledObject]:
    """An object for all the shapes of each set of links. A second rectangle of one is an object of its own."""
    sets: dict[str, list[Region]] = {}
    for one in shapes:
        sets.setdefault(links.root(one.name), []).append(one)
    objects = []
    for members in sets.values():
        boxes = [one for one in members if one.kind == "rectangle"]
        masks = [one for one in members if one.kind != "rectangle"]
        objects.append(LabeledObject(members[0].label, masks, boxes[0] if boxes else None))
        objects += [LabeledObject(one.label, [], one) for one in boxes[1:]]
    return objects


def _boxed(objects: list[LabeledObject], many_parts: bool) -> list[LabeledObject]:
    """The objects, after those that are only a rectangle were given to the polygons that they are drawn around.

    Rectangle and bounds must have an IoU of 0.9, best pairs first. ``many_parts``: what is left over may be several
    parts of one object: all polygons of the class inside a rectangle whose common bounds fit it so.
    """
    boxes = [one for one in objects if not one.shapes and one.box is not None and one.box.is_upright]
    bare = [one for one in objects if one.shapes and one.box is None]
    pairs = [
        (-overlap, i, j)
        for i, one in enumerate(bare)
        for j, box in enumerate(boxes)
        if _are_alike(one, box) and (overlap := _iou(one.bounds, box.bounds)) >= SAME_BOX
    ]
    used: set[int] = set()
    for _, i, j in sorted(pairs):
        if bare[i].box is None and id(boxes[j]) not in used:
            bare[i].box = boxes[j].box
            used.add(id(boxes[j]))
    if many_parts:
        used |= _gather_parts(bare, [one for one in boxes if id(one) not in used])
    return [one for one in objects if id(one) not in used]


def _gather_parts(bare: Sequence[LabeledObject], boxes: Sequence[LabeledObject]) -> set[int]:
    """Join the parts of objects; the ids of the objects that are now part of another one."""
    gone: set[int] = set()
    for box in sorted(boxes, key=lambda one: one.area()):
        parts = [
            one
            for one in bare
            if one.box is None and id(one) not in gone and _are_alike(one, box) and _inside(one.bounds, box.bounds)
        ]
        if len(parts) > 1 and _iou(_union([one.bounds for one in parts]), box.bounds) >= SAME_BOX:
            parts[0].shapes = [shape for one in parts for shape in one.shapes]
            parts[0].box = box.box
            gone |= {id(box), *(id(one) for one in parts[1:])}
    return gone


def _are_alike(a: LabeledObject, b: LabeledObject) -> bool:
    return (a.label, a.is_crowd) == (b.label, b.is_crowd)


# ---- which keypoints belong to them ---------------------------------------------------------------------------------


def _give_keypoints(
    objects: Sequence[LabeledObject], points: Sequence[Region], schema: LabelSchema, links: _Links, task: str
) -> list[LeftOut]:
    """Give each keypoint to its object: linked ones first, the others by what they lie in or near to."""
    left_out, free = [], []
    owners = {links.root(shape.name): one for one in reversed(objects) for shape in one.regions}
    for point in points:
        one = owners.get(links.root(point.name))
        if one is None:
            free.append(point)
        elif all(known.owner != one.label for known in schema.of(point.label)):
            left_out.append(_left(task, point, f"is {point.label!r} of a {one.label}, which has no such keypoint"))
        elif point.label in one.keypoints:
            left_out.append(_left(task, point, f"is a second {point.label!r} of one object; expected one: delete it"))
        else:
            one.keypoints[point.label] = _xyv(point)
    for label, group in groupby(sorted(free, key=lambda one: one.label), key=lambda one: one.label):
        classes = {known.owner for known in schema.of(label)}
        those = [one for one in objects if one.label in classes and label not in one.keypoints]
        left_out += _assign(those, list(group), task)
    return left_out


def _assign(objects: Sequence[LabeledObject], points: Sequence[Region], task: str) -> list[LeftOut]:
    """Keypoints of one label, at most one for each object: in the smallest that holds it, else to the nearest.

    Nearest: within 5 px or 2 % of the diagonal of its bounds, whichever is more.
    """
    ranks = np.argsort(np.argsort([one.area() for one in objects], kind="stable"), kind="stable")
    costs = np.full((len(points), len(objects)), FORBIDDEN)
    for i, point in enumerate(points):
        x, y = point.points[0].tolist()
        for j, one in enumerate(objects):
            x1, y1, x2, y2 = one.bounds
            reach = max(5.0, 0.02 * float(np.hypot(x2 - x1, y2 - y1)))
            if not (x1 - reach <= x <= x2 + reach and y1 - reach <= y <= y2 + reach):
                continue
            distance = one.distance(x, y)
            if distance <= reach:
                costs[i, j] = distance or 1e-3 * int(ranks[j])
    taken = set()
    for i, j in zip(*linear_sum_assignment(costs), strict=True):
        if costs[i, j] < FORBIDDEN:
            objects[j].keypoints[points[i].label] = _xyv(points[i])
            taken.add(int(i))
    sentence = "lies in no object that still needs one, nor near to one; expected such an object: link or delete it"
    return [_left(task, one, f"is a {one.label!r} that {sentence}") for i, one in enumerate(points) if i not in taken]


def _xyv(point: Region) -> tuple[float, float, int]:
    x, y = point.points[0].tolist()
    return x, y, 1 if point.is_hidden else 2


def _left(task: str, one: Region, sentence: str) -> LeftOut:
    return LeftOut(task, one.name, sentence)


# ---- boxes ----------------------------------------------------------------------------------------------------------


def _union(boxes: Sequence[Window]) -> Window:
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _iou(a: Window, b: Window) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _inside(inner: Window, outer: Window) -> bool:
    """Within two pixels, or 2 % of the diagonal."""
    reach = max(2.0, 0.02 * float(np.hypot(outer[2] - outer[0], outer[3] - outer[1])))
    near = [inner[i] >= outer[i] - reach for i in (0, 1)] + [inner[i] <= outer[i] + reach for i in (2, 3)]
    return all(near)
