"""NYU Depth V2, labeled set: semantic maps, depth in metres, boxes and masks of instances."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from math import inf
from pathlib import Path, PurePosixPath
from re import fullmatch
from typing import Any, Literal

import numpy as np
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.coco import object_of, read_coco
from tasks.data.depth_png import Scaled, depth_uri
from tasks.data.files import Place, check_key, place, read_json, relative_uri, resolve, write_bytes
from tasks.data.label_maps import check_labels, class_map, semantic_lut
from tasks.data.manifest import Record
from tasks.data.nyuv2_mat import LabeledMat, check_frames, opened, read_splits
from tasks.data.splits import check_shares, drawn_split

LABELS = (  # NYU-40, from 1
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes"),
    *("ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
    *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture"),
    "otherprop",
)
COARSE = (  # the 13 classes of Couprie et al. 2013
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall"),
    "window",
)
_COARSE_OF = (  # number in COARSE, from 1, of each of LABELS: class13Mapping.mat
    *(12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5),
    *(7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7),
)
TO_COARSE = {label: COARSE[number - 1] for label, number in zip(LABELS, _COARSE_OF, strict=True)}
THINGS = (
    *("bed", "chair", "sofa", "table", "desk", "window", "picture", "door", "cabinet", "pillow", "television"),
    *("refridgerator", "sink", "lamp", "toilet", "night stand", "dresser", "bathtub", "books", "mirror", "box", "bag"),
    *("person", "counter"),
)


@dataclass(frozen=True)
class Nyuv2:
    """NYU Depth V2 (Silberman et al., ECCV 2012), from either of two forms, whichever ``root`` holds.

    **The official file**, nyu_depth_v2_labeled.mat, with classMapping40.mat and splits.mat beside it. Each frame
    becomes a PNG, a PNG of NYU-40 labels and a .npy of metres in the manifest's folder; those that are there already
    are not made again. Objects are the pairs of label and instance. A group of images is a scene of one of the lists
    (so the official lists stay as they are, whatever scenes they share).

    **A folder** with annotations.json (COCO's form; each image also has sem_file_name, sem40_file_name,
    depth_file_name, nyu_index and split), classes.json (``classes`` for level 13, ``classes40`` for level 40, and
    ``depth.metres`` as "value / 25.5") and the files that they name. There a group is a block of frames.

    Pixels without a label, and those of labels that ``segmentation`` does not list, are ignored; objects that
    ``detection`` does not list are left out.
    """

    root: str  # a folder, or s3://bucket/prefix
    level: Literal[13, 40] = 40  # classes of pixels: NYU-40, or the 13 that they are put together to
    segmentation: Mapping[str, str] = field(default_factory=dict)  # label: class; {} = what ``level`` says
    detection: Mapping[str, str] = field(default_factory=dict)  # label: class; {} = THINGS, or the file's categories
    depth: Literal["filled", "raw"] = "filled"  # of the official file: without holes, or as the sensor saw it
    frames: Mapping[str, Sequence[int]] = field(default_factory=dict)  # {split: frames, from 1}; {} = as ``splits``
    validation: float = 0.0  # share of train (whole scenes) that becomes val, drawn by hashing: the same in every run
    test: float = 0.0  # likewise
    block: int = 25  # of a folder: so many frames, one after the other, are taken for one scene
    labeled: str = "nyu_depth_v2_labeled.mat"
    mapping: str = "classMapping40.mat"  # mapClass: from the 894 labels of the official file to 40
    splits: str = "splits.mat"
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("nyuv2", self.validation, self.test)
        if self.block < 1:
            raise ValueError(f"nyuv2: block is {self.block}; expected a number of frames: at least 1")

    def classes(self) -> ClassMap:
        """Those of the maps, or of ``level`` and of the files; ValueError for labels that there are not."""
        pixels, coarse = self._pixels, self._is_folder and self.level == 13
        label_of = {label: TO_COARSE.get(label, label) if coarse else label for label in self._labels}
        return class_map(self._things, pixels, {one: pixels[to] for one, to in label_of.items() if to in pixels})

    def semantic_lut(self) -> tuple[int, ...]:
        """Value of a semantic PNG -> class. Unlabeled pixels are 255 in folders, and 0 in what is made of the file."""
        if self._is_folder:
            return semantic_lut(self._values, self._pixels)
        return (255, *semantic_lut(dict(enumerate(LABELS, start=1)), self._pixels)[1:])

    def records(self, folder: Path) -> Iterator[Record]:
        """Every frame that has a split; ValueError for what is wrong with a whole file. Faults of a frame are kept."""
        yield from self._folder_records(folder) if self._is_folder else self._mat_records(folder)

    # ---- the official file ------------------------------------------------------------------------------------------

    def _mat_records(self, folder: Path) -> Iterator[Record]:
        root = place(self.root)
        sources = (root / self.labeled, root / self.mapping)
        with opened(*sources, {"filled": "depths", "raw": "rawDepths"}[self.depth]) as mat:
            frames = self.frames or read_splits(root / self.splits)
            check_frames("nyuv2: frames" if self.frames else str(root / self.splits), frames, mat.count)
            changed = max(one.stat().st_mtime_ns if isinstance(one, Path) else inf for one in sources)
            for split, numbers in frames.items():
                for number in numbers:
                    yield self._mat_record(mat, number, split, folder, changed)

    def _mat_record(self, mat: LabeledMat, number: int, split: str, folder: Path, changed: float) -> Record:
        """One frame, its files made where they are missing or older than ``changed``."""
        name, frame = f"{number:04d}", number - 1
        uris = (f"images/{name}.png", f"semantic/{name}.png", f"depth_{self.depth}/{name}.npy")
        record = Record(f"nyu_{name}", uris[0], mat.size, split)
        classes = {LABELS.index(label) + 1: index for label, index in self._numbers().items()}
        try:
            group, labels = f"{mat.scene(frame)}/{split}", mat.labels(frame)
            record = replace(record, group=group, split=self._split(split, group))
            if _is_stale(folder / uris[0], changed):
                _write_png(folder / uris[0], mat.image(frame))
            if _is_stale(folder / uris[1], changed):
                _write_png(folder / uris[1], mat.nyu40(labels))
            if _is_stale(folder / uris[2], changed):
                _write_npy(folder / uris[2], mat.depth(frame))
            objects = mat.objects(frame, labels, classes)
        except ValueError as error:
            return replace(record, fault=str(error))
        return replace(record, objects=objects, segmentation=uris[1], depth=uris[2])

    # ---- a folder ---------------------------------------------------------------------------------------------------

    def _folder_records(self, folder: Path) -> Iterator[Record]:
        root, numbers = place(self.root), self._numbers()
        names = {one["id"]: one["name"] for one in self._content["categories"]}
        labels = {id: numbers[name] for id, name in names.items() if name in numbers}
        per_metre, objects = self._per_metre(), defaultdict(list)
        for one in self._content["annotations"]:
            if one["category_id"] in labels or one["category_id"] not in names:  # an unknown one is told by prepare
                objects[one["image_id"]].append(one)
        maps = "sem_file_name" if self.level == 13 else "sem40_file_name"
        for i, image in enumerate(self._content["images"]):
            where = f"{self._annotations}: images[{i}]"
            split, semantic, index = (
                check_key(image, key, kind, where) for key, kind in (("split", str), (maps, str), ("nyu_index", int))
            )
            depth = None if per_metre is None else resolve(check_key(image, "depth_file_name", str, where), root)
            size, group = (image["height"], image["width"]), f"block {index // self.block}/{split}"
            yield Record(
                id=PurePosixPath(image["file_name"]).stem,
                uri=relative_uri(resolve(image["file_name"], root), folder),
                size=size,
                split=self._split(split, group),
                group=group,
                objects=tuple(object_of(one, labels, size) for one in objects[image["id"]]),
                segmentation=relative_uri(resolve(semantic, root), folder),
                depth=None if depth is None else depth_uri(relative_uri(depth, folder), Scaled(per_metre or 1.0)),
            )

    def _per_metre(self) -> float | None:
        """The value of a metre in the depth PNGs; None where the folder has no depth."""
        if "depth" not in self._listed:
            return None
        path = place(self.root) / "classes.json"
        found = check_key(self._listed["depth"], "metres", str, f"{path}: depth")
        number = fullmatch(r"value / ([0-9]*\.?[0-9]+)", found)
        if number is None or not float(number[1]) > 0:
            raise ValueError(f"{path}: depth: 'metres' is {found!r}; expected e.g. 'value / 25.5': correct it")
        return float(number[1])

    @cached_property
    def _content(self) -> dict[str, Any]:
        return read_coco(self._annotations)

    @cached_property
    def _listed(self) -> dict[str, Any]:
        return read_json(place(self.root) / "classes.json", {"classes" if self.level == 13 else "classes40": list})

    @cached_property
    def _values(self) -> dict[int, str]:
        """Value of a folder's semantic PNGs -> label."""
        key, found = "classes" if self.level == 13 else "classes40", {}
        for i, one in enumerate(self._listed[key]):
            where = f"{place(self.root) / 'classes.json'}: {key}[{i}]"
            value = check_key(one, "id", int, where)
            if not 0 <= value < 255:
                raise ValueError(f"{where} has id {value}; expected 0..254, as 8-bit PNGs hold")
            found[value] = str(check_key(one, "name", str, where))
        return found

    # ---- classes, splits --------------------------------------------------------------------------------------------

    @property
    def _annotations(self) -> Place:
        return place(self.root) / "annotations.json"

    @cached_property
    def _is_folder(self) -> bool:
        if (place(self.root) / self.labeled).is_file():
            return False
        if not self._annotations.is_file():
            raise FileNotFoundError(
                f"{self.root}: holds neither {self.labeled} nor annotations.json; expected one of them: correct "
                f"data.root"
            )
        return True

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        """The labels that objects may have."""
        return tuple(one["name"] for one in self._content["categories"]) if self._is_folder else LABELS

    @cached_property
    def _pixels(self) -> Mapping[str, str]:
        """Label of a pixel -> class."""
        known = tuple(self._values.values()) if self._is_folder else LABELS
        check_labels("nyuv2: segmentation", self.segmentation, known)
        if self.segmentation:
            return self.segmentation
        if self._is_folder or self.level == 40:
            return {label: label for label in known}
        return {label: name for name in COARSE for label in LABELS if TO_COARSE[label] == name}

    @cached_property
    def _things(self) -> Mapping[str, str]:
        """Label of an object -> class."""
        check_labels("nyuv2: detection", self.detection, self._labels)
        default = self._labels if self._is_folder else THINGS
        return self.detection or {label: label for label in default}

    def _numbers(self) -> dict[str, int]:
        """Label of an object -> number of its class."""
        names = list(dict.fromkeys(self._things.values()))
        return {label: names.index(name) for label, name in self._things.items()}

    def _split(self, listed: str, group: str) -> str:
        return drawn_split(listed, group, self.validation, self.test)


def _is_stale(path: Path, changed: float) -> bool:
    return not path.is_file() or path.stat().st_mtime_ns <= changed


def _write_png(path: Path, values: Any) -> None:
    png = BytesIO()
    Image.fromarray(values).save(png, "PNG")
    write_bytes(str(path), Path(), png.getvalue())


def _write_npy(path: Path, values: Any) -> None:
    npy = BytesIO()
    np.save(npy, values)
    write_bytes(str(path), Path(), npy.getvalue())
