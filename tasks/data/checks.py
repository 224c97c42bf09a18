"""What can be wrong with a data set, found before anything is trained on it.

An image that cannot be used is dropped as a whole (its file, its maps, its id, its scene); an object that cannot be
used is dropped alone, and its image stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np

from tasks.classes import ClassMap
from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.files import Place
from tasks.data.headers import header_size
from tasks.data.manifest import SPLITS, ObjectRecord, Record
from tasks.data.s3 import AT_FAULT
from tasks.data.samples import class_ids
from tasks.geometry import check_polygons, rle_of
from tasks.seeding import key_of

TOLERANCE = 1.0  # px that a box may reach beyond the image (it is then cut at the border)
IMAGE_KINDS = ("missing", "undecodable", "labels", "size", "semantic", "depth", "split", "duplicate", "scene")
OBJECT_KINDS = ("class", "box", "mask", "keypoints")
Look = Literal["pixels", "headers", "list"]  # how far the files of a data set are looked at
LOOKS: tuple[str, ...] = get_args(Look)
_LONGEST = (1 << 31) - 1  # px of a side, as the manifest can keep them


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


def check_record(record: Record, base: Place, classes: ClassMap, lut: Sequence[int], look: Look = "pixels") -> Checked:
    """What can be used of a record: its files are looked at as far as ``look`` says, and all its objects."""
    return check_objects(record, classes, check_files(record, base, classes, lut, look))


def check_files(
    record: Record, base: Place, classes: ClassMap, lut: Sequence[int], look: Look = "pixels"
) -> tuple[Finding, ...]:
    """What is wrong with an image and its maps; where anything is, the image cannot be used.

    "pixels": they are decoded to their end. "headers": they are there, begin as such files do, and have the size that
    is listed. "list": they are not looked at.
    """
    if record.fault:
        return (Finding("labels", record.id, record.uri, record.fault),)
    if look != "list":
        return (*_check_image(record, base, look), *_check_maps(record, base, classes, lut, look))
    height, width = record.size
    if 0 < height <= _LONGEST and 0 < width <= _LONGEST:
        return ()
    sentence = f"is listed as {height} x {width} px (H x W); expected 1..{_LONGEST} each: correct the list"
    return (Finding("size", record.id, record.uri, sentence),)


def check_objects(record: Record, classes: ClassMap, findings: Sequence[Finding] = ()) -> Checked:
    """What can be used of a record of which ``check_files`` has found this."""
    if findings:
        return Checked(None, tuple(findings))
    if record.objects is None:
        return Checked(record)
    kept, clipped, bad = [], 0, list[Finding]()
    for index, one in enumerate(record.objects):
        problem = _check_object(one, record.size, classes)
        if problem is not None:
            kind, sentence = problem
            bad.append(Finding(kind, record.id, record.uri, f"object {index}: {sentence}"))
            continue
        box = _clipped(one.box, record.size)
        clipped += box != one.box
        kept.append(one if box == one.box else replace(one, box=box))
    if bad or clipped:
        record = replace(record, objects=tuple(kept))
    return Checked(record, tuple(bad), clipped)


def _check_image(record: Record, base: Place, look: Look) -> list[Finding]:
    try:
        found = header_size(record.uri, base) if look == "headers" else None
        if found != record.size:  # what a header says of turns may stand at its end
            found = read_image(record.uri, base).shape[:2]
    except AT_FAULT:
        raise  # the storage is at fault, not the data set
    except OSError as error:
        return [Finding("missing", record.id, record.uri, str(error))]
    except ValueError as error:
        return [Finding("undecodable", record.id, record.uri, str(error))]
    return _check_size(record, record.uri, "size", found)


def _check_maps(record: Record, base: Place, classes: ClassMap, lut: Sequence[int], look: Look) -> list[Finding]:
    """The semantic map and the depth map, where there are any."""
    findings: list[Finding] = []
    for kind, uri in (("semantic", record.segmentation), ("depth", record.depth)):
        if uri is None:
            continue
        try:
            if kind == "depth":
                found = read_depth(uri, base).shape
            elif look == "headers":
                found = header_size(uri, base, ("L", "P"))
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
    height, width = size
    x1, y1, x2, y2 = one.box
    if not 0 <= one.label < len(classes.detection):
        return "class", (
            f"{_where(one)} has a class that the class list does not hold; expected one of {len(classes.detection)} "
            f"classes: correct the label or add the class"
        )
    if not isfinite(x1 + y1 + x2 + y2):
        return "box", f"{_where(one)} is not finite; expected x1, y1, x2, y2 in px: correct or delete the object"
    if min(x1, y1) < -TOLERANCE or x2 > width + TOLERANCE or y2 > height + TOLERANCE:
        return "box", (
            f"{_where(one)} leaves the image of {height} x {width} px (H x W) by more than {TOLERANCE:g} px; expected "
            f"a box inside: correct it"
        )
    x1, y1, x2, y2 = _clipped(one.box, size)
    if min(x2 - x1, y2 - y1) < 1e-6 * max(size):  # as the manifest keeps it, 24 bits a number
        x1, y1, x2, y2 = np.asarray((x1, y1, x2, y2), np.float32).tolist()
    if x2 <= x1 or y2 <= y1:
        return "box", (
            f"{_where(one)} has no area in the image; expected x1 < x2 and y1 < y2: correct or delete the object"
        )
    return _check_mask(one, size) or _check_keypoints(one, classes)


def _where(one: ObjectRecord) -> str:
    return f"box {tuple(round(value, 2) for value in one.box)}"


def _check_mask(one: ObjectRecord, size: tuple[int, int]) -> tuple[str, str] | None:
    try:
        if one.rle:
            rle_of(one.rle, size)
        else:
            check_polygons(one.polygons, size)
    except ValueError as error:
        return "mask", f"{_where(one)}: {error}: correct or delete the mask"
    return None


def _check_keypoints(one: ObjectRecord, classes: ClassMap) -> tuple[str, str] | None:
    if not one.keypoints:
        return None
    count = len(classes.keypoints)
    try:
        values = np.asarray(one.keypoints, np.float64)
        are_right = values.ndim == 1 and bool(np.isfinite(values).all())
    except (TypeError, ValueError, OverflowError):
        are_right = False
    if are_right and count:
        are_right = values.size == 3 * count and bool(np.isin(values[2::3], (0, 1, 2)).all())
    if are_right:
        return None
    return "keypoints", (
        f"{_where(one)} has the keypoints {str(one.keypoints[:9])[:80]}...; expected {count} times x, y, v with v of "
        f"0, 1, 2: correct or delete them"
    )


def _clipped(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = float(size[0]), float(size[1])
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
