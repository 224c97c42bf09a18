"""What can be wrong with a data set, found before anything is trained on it.

An image that cannot be used is dropped as a whole (its file, its maps, its id, its scene); an object that cannot be
used is dropped alone, and its image stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tasks.classes import ClassMap
from tasks.data.files import Place
from tasks.data.manifest import SPLITS, ObjectRecord, Record
from tasks.data.s3 import AT_FAULT
from tasks.data.samples import class_ids, read_depth, read_image, read_semantic
from tasks.geometry import rle_of
from tasks.seeding import key_of

TOLERANCE = 1.0  # px that a box may reach beyond the image (it is then cut at the border)
IMAGE_KINDS = ("missing", "undecodable", "size", "semantic", "depth", "labels", "split", "duplicate", "scene")
OBJECT_KINDS = ("class", "box", "mask", "keypoints")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: str  # of IMAGE_KINDS (the image cannot be used) or OBJECT_KINDS (the object cannot be used)
    id: str  # of the image
    file: str  # the file that it is in or about
    sentence: str  # what was found; what was expected; what to do


@dataclass(frozen=True)
class Checked:
    """What is left of a record, and why."""

    record: Record | None  # with boxes cut at the border, without bad objects; None = the image cannot be used
    findings: tuple[Finding, ...] = ()
    clipped: int = 0  # boxes that were cut at the border, within the tolerance


class Together:
    """What only shows across records: ids that come twice, scenes in several splits. Holds every id and scene."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        self._scenes: dict[str, str] = {}

    def check(self, record: Record) -> list[Finding]:
        """Findings of one more record against those before it."""
        if record.split not in SPLITS:
            sentence = f"has the split {record.split!r}; expected one of {', '.join(SPLITS)}: map it in the data set"
            return [Finding("split", record.id, record.uri, sentence)]
        key, split = key_of(record.id), record.split
        first = self._ids.get(key)
        if first is not None:
            found = f"has the id {first!r}" if first == record.id else f"has the 64-bit key of the id {first!r}"
            sentence = f"{found}, as an image before it; expected one id for each image: rename it"
            return [Finding("duplicate", record.id, record.uri, sentence)]
        self._ids[key] = record.id
        known = self._scenes.setdefault(record.group, split) if record.group else split
        if known == split:
            return []
        sentence = (
            f"is in {split!r}, and its scene {record.group!r} began in {known!r}; expected a scene in one split (its "
            f"frames are too alike to test on): move it, or name the scenes finer"
        )
        return [Finding("scene", record.id, record.uri, sentence)]


def check_record(record: Record, base: Place, classes: ClassMap, lut: Sequence[int]) -> Checked:
    """What can be used of a record: all its files are read to their end, all its objects looked at."""
    if record.fault:
        return Checked(None, (Finding("labels", record.id, record.uri, record.fault),))
    findings = [*_check_image(record, base), *_check_maps(record, base, classes, lut)]
    if findings:
        return Checked(None, tuple(findings))
    if record.objects is None:
        return Checked(record)
    kept, clipped = [], 0
    for index, one in enumerate(record.objects):
        problem = _check_object(one, record.size, classes)
        if problem is not None:
            kind, sentence = problem
            findings.append(Finding(kind, record.id, record.uri, f"object {index}: {sentence}"))
            continue
        box = _clipped(one.box, record.size)
        clipped += box != one.box
        kept.append(replace(one, box=box))
    return Checked(replace(record, objects=tuple(kept)), tuple(findings), clipped)


def _check_image(record: Record, base: Place) -> list[Finding]:
    try:
        found = read_image(record.uri, base).shape[:2]
    except AT_FAULT:
        raise  # the storage is at fault, not the data set
    except OSError as error:
        return [Finding("missing", record.id, record.uri, str(error))]
    except ValueError as error:
        return [Finding("undecodable", record.id, record.uri, str(error))]
    return _check_size(record, record.uri, "size", found)


def _check_maps(record: Record, base: Place, classes: ClassMap, lut: Sequence[int]) -> list[Finding]:
    """The semantic map and the depth map, where there are any."""
    findings: list[Finding] = []
    for kind, uri in (("semantic", record.segmentation), ("depth", record.depth)):
        if uri is None:
            continue
        try:
            if kind == "depth":
                found = read_depth(uri, base).shape
            else:
                values = read_semantic(uri, base)
                found = values.shape
                _check_classes(class_ids(values, lut, uri), uri, classes)
        except AT_FAULT:
            raise
        except OSError as error:
            findings.append(Finding("missing", record.id, uri, str(error)))
        except ValueError as error:
            findings.append(Finding(kind, record.id, uri, str(error)))
        else:
            findings += _check_size(record, uri, kind, found)
    return findings


def _check_classes(ids: Any, uri: str, classes: ClassMap) -> None:
    found = [i for i in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist() if i != 255]
    count = len(classes.segmentation)
    if found and found[-1] >= count:
        raise ValueError(f"{uri}: holds class {found[-1]}; expected 0..{count - 1} or 255: correct the semantic lut")


def _check_size(record: Record, uri: str, kind: str, found: tuple[int, ...]) -> list[Finding]:
    if tuple(found) == record.size:
        return []
    sentence = (
        f"is {found[0]} x {found[1]} px (H x W, as shown); expected {record.size[0]} x {record.size[1]}, as its image "
        f"is listed: correct the file or the list"
    )
    return [Finding(kind, record.id, uri, sentence)]


def _check_object(one: ObjectRecord, size: tuple[int, int], classes: ClassMap) -> tuple[str, str] | None:
    """(kind, sentence) of the first thing that is wrong with an object."""
    where = f"box {tuple(round(value, 2) for value in one.box)}"
    if not 0 <= one.label < len(classes.detection):
        return "class", (
            f"{where} has a class that the class list does not hold; expected one of {len(classes.detection)} classes: "
            f"correct the label or add the class"
        )
    if not np.isfinite(one.box).all():
        return "box", f"{where} is not finite; expected x1, y1, x2, y2 in px: correct or delete the object"
    x1, y1, x2, y2 = one.box
    height, width = size
    if min(x1, y1) < -TOLERANCE or x2 > width + TOLERANCE or y2 > height + TOLERANCE:
        return "box", (
            f"{where} leaves the image of {height} x {width} px (H x W) by more than {TOLERANCE:g} px; expected a box "
            f"inside: correct it"
        )
    x1, y1, x2, y2 = np.asarray(_clipped(one.box, size), np.float32).tolist()  # as the manifest keeps it
    if x2 <= x1 or y2 <= y1:
        return "box", f"{where} has no area in the image; expected x1 < x2 and y1 < y2: correct or delete the object"
    return _check_mask(one, size, where) or _check_keypoints(one, classes, where)


def _check_mask(one: ObjectRecord, size: tuple[int, int], where: str) -> tuple[str, str] | None:
    segmentation: Mapping[str, object] | tuple[tuple[float, ...], ...] | None = one.rle or one.polygons
    if not segmentation:
        return None
    try:
        rle_of(segmentation, size)
    except (ValueError, TypeError) as error:
        return "mask", f"{where}: {error}: correct or delete the mask"
    return None


def _check_keypoints(one: ObjectRecord, classes: ClassMap, where: str) -> tuple[str, str] | None:
    if not one.keypoints or not classes.keypoints:
        return None
    values, count = np.asarray(one.keypoints, np.float64), len(classes.keypoints)
    if values.size != 3 * count or not np.isfinite(values).all() or not np.isin(values[2::3], (0, 1, 2)).all():
        return "keypoints", (
            f"{where} has the keypoints {values[:9].tolist()}...; expected {count} times x, y, v with v of 0, 1, 2: "
            f"correct or delete them"
        )
    return None


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = float(size[0]), float(size[1])
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
