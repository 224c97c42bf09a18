"""Label Studio's regions as shapes in pixels.

Their coordinates are percent of the image as it was shown: where the view was turned (``image_rotation``), of the
turned one. A rectangle turns clockwise about its first corner, in pixels and not in percent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.data.brush_rle import mask_of_brush
from tasks.data.semantic_maps import check_canvas
from tasks.geometry import Size, Window, mask_box

HIDDEN, CROWD, GROUP = "hidden", "crowd", "group"  # in the names of the controls that say so
_ABOUT_A_REGION = ("choices", "number", "rating", "text", "textarea", "taxonomy", "datetime", "pairwise")
Kind = Literal["polygon", "rectangle", "brush", "keypoint"]


@dataclass(frozen=True)
class LeftOut:
    """A region, or a part of one, that could not be used."""

    task: str
    region: str
    sentence: str  # what was found; what was expected; what to do

    def __str__(self) -> str:
        return f"task {self.task}: region {self.region}: {self.sentence}"


@dataclass(frozen=True, eq=False)
class Region:
    """One shape that was drawn."""

    name: str  # its id; in JSON-MIN, which has none, its control and number
    kind: Kind
    label: str
    points: NDArray[np.float64]  # [N, 2] px: of a polygon, the 4 corners of a rectangle, a keypoint; [0, 2] of a brush
    mask: NDArray[np.bool_] | None = None  # [H, W], of a brush
    is_upright: bool = True  # False: a rectangle whose sides are oblique
    is_hidden: bool = False
    is_crowd: bool = False
    parent: str = ""  # id of another region

    @property
    def bounds(self) -> Window:
        """The upright box around it."""
        if self.mask is not None:
            box = mask_box(self.mask)
            assert box is not None, "an empty brush is left out"
            return box
        (x1, y1), (x2, y2) = self.points.min(0).tolist(), self.points.max(0).tolist()
        return x1, y1, x2, y2


_FAR = 1e9  # percent or degrees that no shape has


@dataclass(frozen=True)
class Regions:
    """All that was drawn on one image."""

    size: Size | None  # H, W of the image, as the regions say; None where there is none
    shapes: tuple[Region, ...] = ()  # also keypoints
    links: tuple[tuple[str, str, bool], ...] = ()  # two regions, and whether somebody said that they are the same
    groups: Mapping[str, str] | None = None  # region: its number; None in JSON-MIN, which tells nothing of the kind
    left_out: tuple[LeftOut, ...] = ()


def regions_of(results: Sequence[Mapping[str, Any]], task: str, has_ids: bool) -> Regions:
    """The regions of one task. ValueError for what cannot be read at all; a shape without use is ``left_out``."""
    shapes: list[Region] = []
    links: list[tuple[str, str, bool]] = []
    groups: dict[str, str] = {}
    left_out: list[LeftOut] = []
    sizes: dict[Size, str] = {}
    for number, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise ValueError(
                f"task {task}: result {number} is {str(result)[:40]!r}; expected an object: export the project again"
            )
        if result.get("type") == "relation":
            is_same = "same" in _listed(result.get("labels"))
            links.append((str(result.get("from_id")), str(result.get("to_id")), is_same))
            continue
        control = str(result.get("from_name", ""))
        name = str(result.get("id") or f"{control}[{number}]")
        where, value = f"task {task}: region {name}", result.get("value")
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{where}: has the value {str(value)[:40]!r}; expected an object: export the project again"
            )
        if any(key in value for key in _ABOUT_A_REGION):
            if control == GROUP and "number" in value:
                groups[name] = str(value["number"])
            continue
        size = _size(result, where)
        sizes.setdefault(size, name)
        found = _region(result, value, size, name, where)
        if isinstance(found, Region):
            shapes.append(found)
        else:
            left_out.append(LeftOut(task, name, found))
    if len(sizes) > 1:
        told = ", ".join(f"{w} x {h} px ({name})" for (h, w), name in sizes.items())
        raise ValueError(f"task {task}: has regions of images of {told}; expected one size: label the task again")
    return Regions(next(iter(sizes), None), tuple(shapes), tuple(links), groups if has_ids else None, tuple(left_out))


def _region(result: Mapping[str, Any], value: Mapping[str, Any], size: Size, name: str, where: str) -> Region | str:
    """The shape of a result; or why it cannot be used."""
    labels = [label for key, found in value.items() if key.endswith("labels") for label in _listed(found)]
    if len(labels) != 1:
        found = f"{len(labels)} labels" if labels else "no label"
        return f"has {found}; expected one: correct or delete it"
    turn = _turn(result, where)
    control = str(result.get("from_name", ""))
    common: dict[str, Any] = {
        "name": name,
        "label": str(labels[0]),
        "is_crowd": control.startswith(CROWD),
        "is_hidden": control.endswith(HIDDEN) or bool(value.get("hidden")),
        "parent": str(result.get("parentID") or ""),
    }
    if "rle" in value:
        if turn:
            return f"is a brush on a view that was turned by {turn}; expected 0: turn the view back and save it again"
        try:
            mask = mask_of_brush(value["rle"], size)
        except ValueError as error:
            raise ValueError(f"{where}: {error}: export the project again") from None
        if not mask.any():
            return "is a brush without a pixel; expected at least one: correct or delete it"
        return Region(kind="brush", points=np.zeros((0, 2)), mask=mask, **common)
    if "points" in value:
        return _polygon(value, size, turn, where, common)
    if "width" in value and "height" in value:
        corners, is_upright = _corners(value, size, turn, where)
        return Region(kind="rectangle", points=corners, is_upright=is_upright, **common)
    if "x" in value and "y" in value and "radiusX" not in value:
        point = _pixels(np.array([_numbers(value, ("x", "y"), where)]), size, turn)
        if not (0 <= point[0, 0] <= size[1] and 0 <= point[0, 1] <= size[0]):
            return (
                f"is a keypoint at {point[0].round(1).tolist()}, outside of the image of {size[1]} x {size[0]} px; "
                f"expected it inside: move or delete it"
            )
        return Region(kind="keypoint", points=point, **common)
    return f"is a shape of {', '.join(value)}; expected a polygon, rectangle, brush or keypoint: draw it as one of them"


def _listed(value: object) -> list[Any]:
    """A list; nothing where it is none."""
    return value if isinstance(value, list) else []


def _polygon(value: Mapping[str, Any], size: Size, turn: int, where: str, common: Mapping[str, Any]) -> Region | str:
    given = value["points"]
    try:
        points = np.array(given, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        points = np.full((1, 2), np.nan)
    if not (np.abs(points) < _FAR).all():  # nor is NaN
        raise ValueError(f"{where}: has the points {str(given)[:40]}; expected pairs of numbers: export it again")
    points = _pixels(points, size, turn)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 3 or value.get("closed") is False:
        found = "is not closed" if value.get("closed") is False else f"has {len(points)} points"
        return f"is a polygon that {found}; expected a closed one of 3 points or more: correct or delete it"
    return Region(kind="polygon", points=points, **common)


def _corners(value: Mapping[str, Any], size: Size, turn: int, where: str) -> tuple[NDArray[np.float64], bool]:
    """The corners ``[4, 2]`` of a rectangle, and whether its sides are upright."""
    x, y, width, height = _numbers(value, ("x", "y", "width", "height"), where)
    degrees = _numbers(value, ("rotation",), where)[0] if value.get("rotation") else 0.0
    shown = _shown(size, turn)
    corner = np.array([x * shown[1], y * shown[0]]) / 100
    w, h = width * shown[1] / 100, height * shown[0] / 100
    quarters = degrees / 90
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if quarters.is_integer():  # exact
        cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    sides = np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ np.array([[cos, sin], [-sin, cos]])
    return _turned_back(corner + sides, size, turn), quarters.is_integer()


def _pixels(percent: NDArray[np.float64], size: Size, turn: int) -> NDArray[np.float64]:
    """Points ``[N, 2]`` in pixels of the image as it is stored."""
    shown = _shown(size, turn)
    return _turned_back(percent * (shown[1], shown[0]) / 100, size, turn)


def _shown(size: Size, turn: int) -> Size:
    """H, W of the view."""
    return (size[1], size[0]) if turn in (90, 270) else size


def _turned_back(points: NDArray[np.float64], size: Size, turn: int) -> NDArray[np.float64]:
    """Points ``[N, 2]`` of a view that was turned clockwise, in the image of H, W."""
    (height, width), (x, y) = size, points.T
    found = {
        0: (x, y),
        90: (y, height - x),
        180: (width - x, height - y),
        270: (width - y, x),
    }[turn]
    return np.stack(found, axis=1)


def _turn(result: Mapping[str, Any], where: str) -> int:
    turn = result.get("image_rotation") or 0
    if turn not in (0, 90, 180, 270):
        raise ValueError(f"{where}: has image_rotation {turn!r}; expected 0, 90, 180 or 270: label the task again")
    return int(turn)


def _size(result: Mapping[str, Any], where: str) -> Size:
    """H, W. In JSON-MIN the size stands beside the shape's own keys."""
    value = result["value"]
    found = [result.get(key, value.get(key)) for key in ("original_height", "original_width")]
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in found):
        raise ValueError(
            f"{where}: has original_width {found[1]!r} and original_height {found[0]!r}; expected the image's size in "
            f"px: open the task in Label Studio and save it again"
        )
    try:
        check_canvas((found[0], found[1]))
    except ValueError as error:
        raise ValueError(f"{where}: {error}: label the task again") from None
    return found[0], found[1]


def _numbers(value: Mapping[str, Any], keys: Sequence[str], where: str) -> list[float]:
    found = [value.get(key) for key in keys]
    if not all(isinstance(v, int | float) and abs(v) < _FAR for v in found):
        raise ValueError(
            f"{where}: has {', '.join(f'{k} {v!r}' for k, v in zip(keys, found, strict=True))}; expected numbers in "
            f"percent: export the project again"
        )
    return [float(v) for v in found if v is not None]
