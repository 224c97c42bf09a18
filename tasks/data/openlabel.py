"""What a label file of the A9 / TUM Traffic data sets says of one camera image, whatever release wrote it.

Four styles are told apart by their keys, not by a version number:

* r00, before OpenLABEL: ``labels``, each with a ``category`` and eight projected corners in shares of the image;
* r01: OpenLABEL whose objects hold projected corners in pixels, and mostly a box;
* r02 and later: OpenLABEL whose objects hold a box and polygons;
* ASAM's own form: the type of an object stands at the top, its shapes in the frame.

None of the first three satisfies ASAM's schema (name and type are inside ``object_data``), so it is not asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.data.files import Place, check_key, read_json
from tasks.data.semantic_maps import Box

_BOX, _MASK = "full_bbox", "full_mask"  # the names of the shapes that show the whole object
_ROUNDED = 1.0  # px between a box and the corners that it was made of
_FAR = 1e9  # px that no shape reaches
_ABSOLUTE = "MODE_POLY2D_ABSOLUTE"


@dataclass(frozen=True)
class Labeled:
    """One object as its file has it, in pixels; nothing is clipped."""

    type: str  # in capitals
    box: Box | None  # xyxy; None = it has no shape in the image
    polygons: tuple[tuple[float, ...], ...] = ()  # parts, each x1, y1, x2, y2, ...


def read_labels(path: Place, size: tuple[int, int]) -> list[Labeled]:
    """The objects of an image of H, W, in the file's order. ValueError names the file, the object, and what it has."""
    content = read_json(path, {})
    if "labels" in content and "openlabel" not in content:
        return [_legacy(one, size, f"{path}: labels[{i}]") for i, one in enumerate(_listed(content, "labels", path))]
    return [_object(id, data, types, path) for id, data, types in _objects(content, path)]


def _legacy(one: Any, size: tuple[int, int], where: str) -> Labeled:
    """Corners are shares of the image's width and height."""
    category = str(check_key(one, "category", str, where)).upper()
    corners = check_key(one, "box3d_projected", dict, where)
    height, width = size
    points = [_point(value, f"{where}: box3d_projected: {name}") for name, value in corners.items()]
    return Labeled(category, _hull([(x * width, y * height) for x, y in points]))


def _objects(content: Mapping[str, Any], path: Place) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(id, object_data, the entry at the top or nothing) of each object of the one frame."""
    label = content.get("openlabel", content)  # one writer leaves the outermost key out
    frames = check_key(label, "frames", dict, str(path))
    if "objects" not in frames:  # and with it the number of the frame
        if len(frames) != 1:
            raise ValueError(f"{path}: has {len(frames)} frames; expected one image a file: split it")
        [frames] = frames.values()
    if not isinstance(frames, dict):
        raise ValueError(f"{path}: its frame is {str(frames)[:40]!r}; expected an object: copy the file again")
    top = label.get("objects", {})
    for id, one in (check_key(frames, "objects", dict, f"{path}: frame") if "objects" in frames else {}).items():
        data = check_key(one, "object_data", dict, f"{path}: object {id}")
        yield id, data, top.get(id, {}) if isinstance(top, dict) else {}


def _object(id: str, data: Mapping[str, Any], top: Mapping[str, Any], path: Place) -> Labeled:
    where = f"{path}: object {id}"
    name = check_key(data if "type" in data else top, "type", str, where)
    polygons = _polygons(data, where)
    points = [point for part in polygons for point in zip(part[::2], part[1::2], strict=True)]
    box, corners = _box(data, where), _hull(_keypoints(data, where))
    if box is None:
        box = _hull(points) or corners
    elif corners is not None and max(abs(a - b) for a, b in zip(box, corners, strict=True)) <= _ROUNDED:
        box = corners  # r01 rounds the centres of the boxes that it made of the corners
    return Labeled(str(name).upper(), box, polygons)


def _box(data: Mapping[str, Any], where: str) -> Box | None:
    """The box that is called full_bbox, else the first one; centre x, centre y, width, height as stored."""
    boxes = _listed(data, "bbox", where)
    if not boxes:
        return None
    chosen = next((one for one in boxes if isinstance(one, dict) and one.get("name") == _BOX), boxes[0])
    values = check_key(chosen, "val", list, f"{where}: bbox")
    if len(values) != 4 or not _are_numbers(values):
        raise ValueError(f"{where}: bbox is {values[:6]}; expected centre x, centre y, width, height: correct it")
    x, y, width, height = map(float, values)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _polygons(data: Mapping[str, Any], where: str) -> tuple[tuple[float, ...], ...]:
    """The polygons that are called full_mask, else all of them."""
    shapes = _listed(data, "poly2d", where)
    full = [one for one in shapes if isinstance(one, dict) and one.get("name") == _MASK]
    parts = []
    for one in full or shapes:
        values = check_key(one, "val", list, f"{where}: poly2d")
        mode = one.get("mode", _ABSOLUTE)
        if mode != _ABSOLUTE:
            raise ValueError(f"{where}: poly2d has the mode {mode!r}; expected {_ABSOLUTE}: convert the file")
        if len(values) < 6 or len(values) % 2 or not _are_numbers(values):
            raise ValueError(f"{where}: poly2d is {str(values)[:40]}; expected x, y of 3 or more points: correct it")
        parts.append(tuple(map(float, values)))
    return tuple(parts)


def _keypoints(data: Mapping[str, Any], where: str) -> list[tuple[float, float]]:
    """The projected corners of r01."""
    if "keypoints_2d" not in data:
        return []
    found: Any = data
    for name in ("keypoints_2d", "attributes", "points2d"):
        found = check_key(found, name, dict, where)
    listed = check_key(found, "val", list, f"{where}: points2d")
    return [
        _point(check_key(check_key(one, "point2d", dict, where), "val", list, where), f"{where}: point2d")
        for one in listed
    ]


def _point(values: Any, where: str) -> tuple[float, float]:
    if not isinstance(values, list) or len(values) != 2 or not _are_numbers(values):
        raise ValueError(f"{where} is {str(values)[:40]}; expected x, y: correct it")
    return float(values[0]), float(values[1])


def _hull(points: Sequence[tuple[float, float]]) -> Box | None:
    """The rectangle around some points."""
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _listed(content: Mapping[str, Any], name: str, where: object) -> list[Any]:
    """A list that may be absent."""
    return list(check_key(content, name, list, str(where))) if name in content else []


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < _FAR for v in values)
