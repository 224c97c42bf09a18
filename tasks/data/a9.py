"""A9 / TUM Traffic: boxes and masks of road users, seen by cameras above a motorway and at a crossing."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from json import dumps
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.concurrent import in_order
from tasks.data.files import Place, opened, place, relative_uri
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.objects import S3Path
from tasks.data.openlabel import Labeled, read_labels
from tasks.data.s3 import AT_FAULT
from tasks.data.semantic_maps import (
    IGNORE,
    clipped,
    fill_box,
    is_newer,
    painted_classes,
    painted_lut,
    write_map,
)
from tasks.data.splits import check_shares, drawn_split
from tasks.geometry import mask_of_rle, rle_of_polygons

TYPES = {
    "CAR": "car",
    "TRUCK": "truck",
    "TRAILER": "trailer",
    "VAN": "van",
    "MOTORCYCLE": "motorcycle",
    "BUS": "bus",
    "PEDESTRIAN": "pedestrian",
    "BICYCLE": "bicycle",
    "EMERGENCY_VEHICLE": "emergency_vehicle",
}
_IMAGES = (".jpg", ".png", ".jpeg")
_AHEAD = 16  # label files of object storage that are read at a time
_SIZE = (1200, 1920)  # H, W of the cameras; for an image that cannot be opened, which ``prepare`` then tells
_NAN = (float("nan"),) * 4


@dataclass(frozen=True)
class A9:
    """All releases of the A9 data set (Cress et al. 2022), also as TUM Traffic. The fields are the YAML keys.

    Every JSON below a folder named as a key of ``folders`` (``_labels``) is the labels of the image of the same name
    below the folder beside it (``_images``). ``types`` maps the types of objects to classes. Types in ``ignored`` give
    no box, and their pixels are 255; types in ``left_out`` are as if they were not labeled (license plates are parts of
    cars). Any other type is a fault that ``prepare`` lists.

    Boxes are those of the file, else the rectangle around its polygons or its projected corners, and are cut at the
    border of the image. Where a file has polygons they are painted in the order of the boxes' lower edges, since what
    is lower stands nearer to the camera, over the class "background"; an object without a polygon is ignored there, its
    whole box. Files without any polygon (r00, r01) have no semantic map: that task is then not labeled.

    A scene is a sequence: the folder that ``_labels`` lies in, or so many seconds of it. The releases have no published
    splits: a split has its folder (``splits``), or is a share of the scenes.
    """

    root: str  # a folder, or s3://bucket/prefix
    folders: Mapping[str, str] = field(
        default_factory=lambda: {"_labels": "_images", "labels": "images", "labels_images": "images"}
    )
    sensors: tuple[str, ...] = ()  # names of the folders of cameras; () = all
    types: Mapping[str, str] = field(default_factory=lambda: dict(TYPES))  # type: class
    ignored: tuple[str, ...] = ("OTHER",)
    left_out: tuple[str, ...] = ("LICENSE_PLATE_LOCATION",)
    splits: Mapping[str, str] = field(default_factory=dict)  # split: folder below root; {} = all is "train"
    scene_seconds: float = 0.0  # length of a scene; 0 = the whole sequence
    validation: float = 0.0  # share of train (whole scenes) that becomes val, drawn by hashing: the same in every run
    test: float = 0.0  # likewise
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("a9", self.validation, self.test)
        if not self.types or not self.folders:
            raise ValueError("a9: types or folders is empty; expected at least one entry of each")
        if not self.scene_seconds >= 0:
            raise ValueError(f"a9: scene_seconds is {self.scene_seconds}; expected 0 (the whole sequence) or more")

    def classes(self) -> ClassMap:
        """Background and the classes of objects; the data are not looked at."""
        return painted_classes((), self.types.values())

    def semantic_lut(self) -> tuple[int, ...]:
        return painted_lut(self.classes())

    def records(self, folder: Path) -> Iterator[Record]:
        """Every labeled image; objects with faults are yielded: ``prepare`` judges."""
        root = place(self.root)
        for split, part in (self.splits or {"train": ""}).items():
            if not (root / part).is_dir():
                raise FileNotFoundError(
                    f"{root / part}: no such folder; expected releases of A9: set data.root to the folder that holds "
                    f"them, or correct data.splits"
                )
            frames = self._frames(root / part)
            record = partial(self._record, split=split, folder=folder)
            yield from (found for _, found in in_order(frames, record, _AHEAD if isinstance(root, S3Path) else 0))

    def _frames(self, folder: Place) -> Iterator["_Frame"]:
        """Every label file of every sequence, in the order of their paths."""
        files = folder.walk() if isinstance(folder, S3Path) else self._files(folder)
        known = {one.relative_to(folder).parts for one in files}  # type: ignore[arg-type]  # of the same kind
        for parts in sorted(known):
            at = next((i for i, name in enumerate(parts[:-1]) if name in {*self.folders, *self.folders.values()}), None)
            if at is None or parts[at] not in self.folders or not parts[-1].endswith(".json"):
                continue
            if self.sensors and parts[-2] not in self.sensors:
                continue
            image = (*parts[:at], self.folders[parts[at]], *parts[at + 1 : -1])
            names = [parts[-1].removesuffix(".json") + ending for ending in _IMAGES]
            name = next((name for name in names if (*image, name) in known), names[0])
            yield _Frame(folder.joinpath(*parts), folder.joinpath(*image, name), folder.joinpath(*parts[:at]))

    def _files(self, folder: Path) -> Iterator[Path]:
        """All files of labels and images on a disk."""
        wanted = {*self.folders, *self.folders.values()}
        for above, names, _ in os.walk(folder):
            for name in set(names) & wanted:
                yield from (path for path in Path(above, name).rglob("*") if path.is_file())
            names[:] = set(names) - wanted

    def _record(self, frame: "_Frame", split: str, folder: Path) -> Record:
        """The record of a label file."""
        labels, path, root = frame.labels, frame.image, place(self.root)
        size = _size(path)
        scene = self._scene(labels, relative_uri(frame.sequence, root))
        bare = Record(
            id=relative_uri(path, root),
            uri=relative_uri(path, folder),
            size=size,
            split=drawn_split(split, scene, self.validation, self.test),
            group=scene,
        )
        made = folder / "semantic" / self._mark / Path(relative_uri(labels, root)).with_suffix(".png")
        try:
            objects = [one for one in read_labels(labels, size) if one.type not in self.left_out]
            is_masked = any(one.polygons for one in objects)
            if is_masked and not is_newer(made, (labels, path)):
                write_map(made, self._painted(objects, size))
        except ValueError as error:
            return replace(bare, fault=str(error) if str(labels) in str(error) else f"{labels}: {error}: correct it")
        return replace(
            bare,
            objects=tuple(self._object(one, size) for one in objects if one.type not in self.ignored),
            segmentation=relative_uri(made, folder) if is_masked else None,
        )

    def _object(self, one: Labeled, size: tuple[int, int]) -> ObjectRecord:
        label = self.classes().detection.index(self.types[one.type]) if one.type in self.types else -1
        return ObjectRecord(clipped(one.box or _NAN, size), label, polygons=one.polygons)

    def _painted(self, objects: Sequence[Labeled], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Class ids ``[H, W]``."""
        names = self.classes().segmentation
        values = np.zeros(size, np.uint8)
        for one in sorted(objects, key=lambda one: one.box[3] if one.box else 0.0):
            value = names.index(self.types[one.type]) if one.type in self.types else IGNORE
            if one.polygons:
                values[mask_of_rle(rle_of_polygons(one.polygons, size))] = value
            elif one.box:
                fill_box(values, one.box, IGNORE)
        return values

    def _scene(self, labels: Place, sequence: str) -> str:
        """Names of files begin with their second: <seconds>_<nanoseconds>_<sensor>."""
        if not self.scene_seconds:
            return sequence
        second = labels.name.partition("_")[0]
        if not second.isdecimal():
            raise ValueError(
                f"{labels}: its name does not begin with a second; expected <seconds>_<nanoseconds>_<sensor>.json: "
                f"set data.scene_seconds to 0"
            )
        return f"{sequence}/{int(second) // self.scene_seconds:.0f}"

    @property
    def _mark(self) -> str:
        """What painted maps depend on, beside the labels."""
        parts = [list(self.types.items()), self.ignored, self.left_out]
        return sha256(dumps(parts).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Frame:
    labels: Place
    image: Place  # where there is none, what it would be called
    sequence: Place  # the folder that the folders of labels and images lie in


def _size(path: Place) -> tuple[int, int]:
    """H, W, from the head of the file."""
    try:
        with opened(str(path), Path()) as file, Image.open(file) as image:
            return image.height, image.width
    except AT_FAULT:
        raise  # the storage is at fault, not the data set
    except (OSError, ValueError, SyntaxError):
        return _SIZE
