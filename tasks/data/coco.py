"""The COCO family: boxes, polygons, run-length masks, crowds, keypoints, semantic PNGs, panoptic PNGs.

@plugin-dev: other data sets in COCO's JSON form use ``index_of`` (large ones), ``read_coco`` and ``object_of``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from posixpath import splitext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.classes import ClassMap
from tasks.data.annotation_index import AnnotationIndex, check_entries
from tasks.data.combined import KeypointSlots
from tasks.data.concurrent import in_order
from tasks.data.files import (
    Place,
    below,
    check_key,
    place,
    read_bytes,
    read_json,
    relative_uri,
    resolve,
    uris_below,
)
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.semantic_maps import box_of, is_newer, write_map
from tasks.data.splits import check_shares, drawn_split
from tasks.geometry import mask_box, rle_of, rle_of_mask

UNLISTED = 254  # in the semantic PNGs made here: a segment that the panoptic JSON does not list; never a class
_SPLIT = "{split}"
_NO_NUMBERS = (float("nan"),)  # what stands for keypoints that are no list
_AHEAD = 8  # panoptic PNGs that are read at a time


@dataclass(frozen=True)
class Coco:
    """Any data set in COCO's form. The fields are the YAML keys; paths are relative to ``root``.

    ``{split}`` in a path stands for each value of ``splits`` in turn, e.g. for COCO 2017 with panoptic labels::

        data: {name: coco, root: /data/coco, annotations: "annotations/instances_{split}2017.json",
               images: "{split}2017", panoptic: "annotations/panoptic_{split}2017.json", size: [480, 640]}

    Without ``{split}`` one file holds everything, and an image's split is its ``split`` field (where it has none,
    "train"). A class of objects and a class of pixels are the same where their names are (at the level "super": the
    names of their supercategories).

    Where the categories have different lists of keypoints, an object has them all, and those of its category are filled
    in. Images and annotations may have the keys of the combined file (see ``combined``): an image whose ``has`` says so
    has no labels, and its ``depth_file`` (below ``root``) is a depth map. A class of the list with ``ignore: true`` is
    not learned.

    Semantic PNGs hold category ids. Panoptic ones (id = R + 256 G + 65536 B) become such PNGs under the manifest's
    folder, so their category ids must stay below 254. Thing segments become objects where ``annotations`` is "".
    """

    root: str  # a folder, or s3://bucket/prefix
    annotations: str = "annotations.json"  # JSON of boxes, masks, keypoints; "" = take the objects from ``panoptic``
    images: str = ""  # the folder that file_name is relative to
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})  # split: word in a path
    semantic: str = ""  # folder of PNGs named as the images; "" = the image's sem_file_name, where there is one
    panoptic: str = ""  # panoptic JSON; its PNGs lie in the folder of the same name without .json
    class_list: str = (
        ""  # JSON list of semantic classes (id, name, isthing, supercategory); "" = classes.json if present
    )
    level: Literal["fine", "super"] = "fine"  # "super": supercategories are the classes, of objects and of pixels
    group: str = ""  # the field of an image that names its scene; "" = every image is its own scene
    validation: float = 0.0  # share of train (whole scenes) that becomes val, drawn by hashing: the same in every run
    test: float = 0.0  # likewise
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("coco", self.validation, self.test)
        if not (self.annotations or self.panoptic):
            raise ValueError("coco: neither annotations nor panoptic is set; expected at least one JSON file")

    def classes(self) -> ClassMap:
        """The classes of objects and of pixels, by their order in the files."""
        detection = _unique([self._name(one) for one in self._things])
        segmentation = _unique([self._name(one) for one in self._pixels if not one.get("ignore")])
        to = tuple(segmentation.index(name) if name in segmentation else -1 for name in detection)
        slots = KeypointSlots(self._things)
        return ClassMap(detection, segmentation, to, slots.names, slots.flip_pairs, slots.skeleton)

    def semantic_lut(self) -> tuple[int, ...]:
        """Category id -> class; every value that is no category is -1."""
        lut, names = [-1] * 255 + [255], self.classes().segmentation
        for one in self._pixels:
            lut[one["id"]] = 255 if one.get("ignore") else names.index(self._name(one))
        return tuple(lut)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image; ValueError where a file is no COCO JSON. Objects with faults are yielded: ``prepare`` judges."""
        names, root = self.classes().detection, place(self.root)
        labels = {one["id"]: names.index(self._name(one)) for one in self._things}
        for split, word in self._words():
            images = resolve(self.images.replace(_SPLIT, word), root)
            part = _Part(split, word, folder, labels, uris_below(images, root), uris_below(images, folder))
            yield from self._records(part, KeypointSlots(self._things))
            self._indices.clear()  # those of the next split take its place

    def _records(self, part: "_Part", slots: KeypointSlots) -> Iterator[Record]:
        """The images of one pair of files."""
        index = self._index(self.annotations or self.panoptic, part.word)
        maps = self._index(self.panoptic, part.word) if self.panoptic else None

        def record(entry: tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]) -> Record:
            image, annotations = entry
            own = annotations if self.annotations else ()
            if slots.names:
                own = [{**one, "keypoints": slots.placed(one)} for one in own]
            found = self._record(image, own, part)
            listed = maps.of(image["id"]) if maps is not None else ()
            return self._with_panoptic(found, listed[-1], part) if listed else found

        if maps is not None:
            yield from (found for _, found in in_order(index, record, _AHEAD))
        else:
            yield from map(record, index)

    # ---- one image ----

    def _record(self, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], part: "_Part") -> Record:
        size, semantic, id = (
            (image["height"], image["width"]),
            self._semantic(image, part.word),
            part.id(image["file_name"]),
        )
        group = str(image.get(self.group, "")) if self.group else ""
        has = {"detection": True, "depth": True} | dict(image.get("has") or {})
        is_labeled, depth = self.annotations and has["detection"], image.get("depth_file") if has["depth"] else None
        return Record(
            id=id,
            uri=part.uri(image["file_name"]),
            size=size,
            split=drawn_split(image.get("split", part.split), group or id, self.validation, self.test),
            group=group,
            objects=tuple(object_of(one, part.labels, size) for one in annotations) if is_labeled else None,
            segmentation=None if semantic is None else relative_uri(semantic, part.folder),
            depth=relative_uri(resolve(depth, place(self.root)), part.folder) if depth else None,
        )

    def _with_panoptic(self, record: Record, listed: Mapping[str, Any], part: "_Part") -> Record:
        """The record with the labels of its panoptic PNG.

        Where that is missing or broken it becomes the semantic map itself, and ``prepare`` says what is wrong with it.
        """
        folder, source = part.folder, resolve(self.panoptic.replace(_SPLIT, part.word), place(self.root))
        png = source.parent / source.stem / listed["file_name"]
        try:
            made = below(folder / "semantic" / source.stem, listed["file_name"]).with_suffix(".png")
        except ValueError as error:
            return replace(record, fault=f"{source}: file_name {error}")
        fresh = self.annotations and is_newer(made, (source, png))
        try:
            ids = None if fresh else _read_panoptic(png)
        except (OSError, SyntaxError, ValueError):
            return replace(record, segmentation=relative_uri(png, folder))
        objects = record.objects
        if ids is not None:
            _write_semantic(made, ids, listed["segments_info"])
            objects = objects if self.annotations else _thing_objects(ids, listed["segments_info"], part.labels)
        return replace(record, segmentation=relative_uri(made, folder), objects=objects)

    def _semantic(self, image: Mapping[str, Any], word: str) -> Place | None:
        if self.semantic:
            folder = resolve(self.semantic.replace(_SPLIT, word), place(self.root))
            return folder / f"{splitext(image['file_name'])[0]}.png"
        return resolve(image["sem_file_name"], place(self.root)) if image.get("sem_file_name") else None

    # ---- files ----

    def _words(self) -> list[tuple[str, str]]:
        """(split, its word in paths) for each file to read."""
        return list(self.splits.items()) if _SPLIT in (self.annotations or self.panoptic) else [("train", "")]

    def _index(self, path: str, word: str) -> AnnotationIndex:
        """One that was read once is kept: its categories are asked for before its images."""
        if (path, word) not in self._indices:
            file = resolve(path.replace(_SPLIT, word), place(self.root))
            self._indices[path, word] = index_of(file, path == self.panoptic)
        return self._indices[path, word]

    @cached_property
    def _indices(self) -> dict[tuple[str, str], AnnotationIndex]:
        return {}

    # ---- classes ----

    def _name(self, category: Mapping[str, Any]) -> str:
        if self.level == "fine":
            return str(category["name"])
        return str(check_key(category, "supercategory", str, f"{self.root}: category {category['name']!r}"))

    @cached_property
    def _things(self) -> list[dict[str, Any]]:
        """Categories of objects, in the order of the file."""
        return [one for one in self._categories(self.annotations or self.panoptic) if one.get("isthing", 1)]

    @cached_property
    def _pixels(self) -> list[dict[str, Any]]:
        """Categories of pixels: of the class list, else of the panoptic JSON, else none."""
        path = resolve(self.class_list or "classes.json", place(self.root))
        if self.class_list or path.is_file():
            found: list[dict[str, Any]] = read_json(path, {"classes": list})["classes"]
            where = str(path)
        else:
            found, where = (self._categories(self.panoptic) if self.panoptic else []), self.panoptic
        for i, one in enumerate(found):
            value = check_key(one, "id", int, f"{where}: class {i}")
            check_key(one, "name", str, f"{where}: class {i}")
            if not 0 <= value < UNLISTED:
                raise ValueError(
                    f"{where}: the class {one['name']!r} has id {value}; expected 0..253, as 8-bit PNGs hold"
                )
        return found

    def _categories(self, path: str) -> list[dict[str, Any]]:
        index = self._index(path, self._words()[0][1])
        return check_entries(index.head, str(index.path))


@dataclass(frozen=True)
class _Part:
    """One pair of files, and what its images have in common."""

    split: str
    word: str  # of the split in paths
    folder: Path  # of the manifest
    labels: Mapping[int, int]  # category id: class
    id: Callable[[str], str]  # of a file_name
    uri: Callable[[str], str]


def index_of(path: Place, panoptic: bool = False) -> AnnotationIndex:
    """A COCO JSON to be read an image at a time. ValueError names the entry and the key that is missing."""
    index = AnnotationIndex(path, lambda name, number, one: _check_entry(name, number, one, panoptic, path))
    check_entries(index.head, str(path))
    return index


def read_coco(path: Place) -> dict[str, Any]:
    """A COCO JSON as a whole; ValueError names the file, the entry and the key that is missing."""
    content = read_json(path, {"images": list, "annotations": list, "categories": list})
    check_entries(content, str(path))
    for i, one in enumerate(content["images"]):
        check_key(one, "id", (int, str), f"{path}: images[{i}]")
        _check_entry("images", i, one, False, path)
    ids = {one["id"] for one in content["images"]}
    for i, one in enumerate(content["annotations"]):
        if check_key(one, "image_id", (int, str), f"{path}: annotations[{i}]") not in ids:
            raise ValueError(
                f"{path}: annotations[{i}] is of image {one['image_id']}; expected the id of one of images"
            )
        _check_entry("annotations", i, one, False, path)
    return content


_KEYS: Mapping[str, Mapping[str, type]] = {
    "images": {"file_name": str, "height": int, "width": int},
    "annotations": {"category_id": int, "bbox": list},
    "panoptic": {"file_name": str, "segments_info": list},
}


_MAY = {"sem_file_name": str, "depth_file": str, "has": dict, "split": str}  # of images


def _check_entry(name: str, number: int, one: Mapping[str, Any], panoptic: bool, path: Place) -> None:
    """ValueError where an entry of images or annotations lacks what is needed."""
    is_map = panoptic and name == "annotations"
    for key, kind in _KEYS["panoptic" if is_map else name].items():
        if type(one.get(key)) is not kind:
            check_key(one, key, kind, f"{path}: {name}[{number}]")
    for key, kind in _MAY.items() if name == "images" else ():
        if one.get(key) is not None:
            check_key(one, key, kind, f"{path}: {name}[{number}]")
    if not is_map:
        return
    for segment in one["segments_info"]:
        for key in ("id", "category_id"):
            check_key(segment, key, int, f"{path}: a segment of {name}[{number}]")


def object_of(annotation: Mapping[str, Any], labels: Mapping[int, int], size: tuple[int, int]) -> ObjectRecord:
    """The object of a COCO annotation of an image of H, W. What is wrong with it stays visible for ``prepare``.

    Category ids that ``labels`` (id -> class) does not hold become -1, a box that is not four numbers becomes NaN, and
    a mask that cannot be read stays as it is.
    """
    x, y, width, height = box_of(annotation["bbox"])  # as COCO has it
    segmentation, rle = annotation.get("segmentation"), None
    polygons: tuple[tuple[float, ...], ...] = ()
    if isinstance(segmentation, Mapping):
        rle = _rle(segmentation, size)
    elif segmentation:
        parts = segmentation if isinstance(segmentation, list) else [()]
        polygons = tuple(tuple(part) if isinstance(part, list) else () for part in parts)
    keypoints = annotation.get("keypoints") or ()
    return ObjectRecord(
        box=(x, y, x + width, y + height),
        label=labels.get(annotation["category_id"], -1),
        crowd=bool(annotation.get("iscrowd", 0)),
        rle=rle,
        polygons=polygons,
        keypoints=tuple(keypoints) if isinstance(keypoints, list | tuple) else _NO_NUMBERS,
    )


def _rle(segmentation: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, object]:
    """A mask as a compressed RLE; what cannot be one, in a form that ``prepare`` can judge."""
    counts = segmentation.get("counts", b"")
    if isinstance(counts, list):
        try:
            return rle_of(segmentation, size)
        except ValueError:
            return segmentation
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    return {"size": segmentation.get("size", [0, 0]), "counts": counts}


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# ---- panoptic -------------------------------------------------------------------------------------------------------


def _read_panoptic(path: Place) -> NDArray[np.int64]:
    """Segment ids ``[H, W]``."""
    with Image.open(BytesIO(read_bytes(str(path), Path()))) as image:
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    return ids


def _write_semantic(path: Path, ids: NDArray[np.int64], segments: Sequence[Mapping[str, Any]]) -> None:
    """A PNG of category ids."""
    values = np.full(ids.shape, UNLISTED, np.uint8)
    values[ids == 0] = 255
    for one in segments:
        values[ids == one["id"]] = one["category_id"] if 0 <= one["category_id"] < UNLISTED else UNLISTED
    write_map(path, values)


def _thing_objects(
    ids: NDArray[np.int64], segments: Sequence[Mapping[str, Any]], labels: Mapping[int, int]
) -> tuple[ObjectRecord, ...]:
    """An object for every thing segment that has pixels: its mask and the tight box around it."""
    objects = []
    for one in segments:
        mask = ids == one["id"]
        box = mask_box(mask)
        if one["category_id"] in labels and box is not None:
            crowd = bool(one.get("iscrowd", 0))
            objects.append(ObjectRecord(box, labels[one["category_id"]], crowd, rle_of_mask(mask)))
    return tuple(objects)
