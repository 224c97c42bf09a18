"""Cityscapes: semantic maps, boxes and masks of its instances, depth from its disparity maps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tasks.classes import ClassMap
from tasks.data.concurrent import in_order
from tasks.data.decoding import opened_image
from tasks.data.depth_png import Disparity, depth_uri
from tasks.data.files import Place, check_key, place, read_json, relative_uri
from tasks.data.label_maps import check_labels, class_map, objects_of, semantic_lut
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.s3 import AT_FAULT
from tasks.data.splits import check_shares, drawn_split

LABELS = (  # by their ids
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road"),
    *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole"),
    *("polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
    *("bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
PIXELS = (  # the 19 classes, by their train ids
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
SIGNS = ("traffic light", "traffic sign")
_COUNTED = LABELS[24:]  # what has a number for each instance
_NOT_DRAWN = ("license plate", "deleted")
_GROUP = "group"
_AHEAD = 8  # frames that are read at a time


def _same(labels: tuple[str, ...]) -> dict[str, str]:
    return {label: label for label in labels}


@dataclass(frozen=True)
class Cityscapes:
    """Cityscapes (Cordts et al., CVPR 2016) as it is unpacked: ``<root>/leftImg8bit/<split>/<city>/...``, likewise
    gtFine, and disparity and camera where there is to be depth.

    Objects are those of instanceIds.png; groups are crowds. Labels that are not counted there (lights, signs) become
    objects by gtFine_polygons.json: a polygon is an object, drawn as Cityscapes draws it, its visible part.
    Pixels of labels that ``segmentation`` does not list are ignored, objects that ``detection`` does not list left out.
    A group of images is a city. Depth is baseline * fx / disparity, by camera.json.
    """

    root: str  # a folder, or s3://bucket/prefix
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})  # split: its folder
    unlabeled: tuple[str, ...] = ("test",)  # folders of which only the images are read: the labels of test are not out
    validation: float = 0.0  # share of train (whole cities) that becomes val, drawn by hashing: the same in every run
    images: str = "leftImg8bit"  # folder, and end of the names in it
    labels: str = "gtFine"  # likewise; or gtCoarse
    segmentation: Mapping[str, str] = field(default_factory=lambda: _same(PIXELS))  # label: class
    detection: Mapping[str, str] = field(default_factory=lambda: _same(THINGS))  # label: class
    signs: bool = False  # boxes of traffic lights and signs, too: the ten classes of Salscheider 2020
    disparity: str = "disparity"  # folder; "" = no depth
    camera: str = "camera"  # folder
    cap: float = 200.0  # metres; no depth beyond
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("cityscapes", self.validation, 0.0)
        check_labels("cityscapes: segmentation", self.segmentation, LABELS)
        check_labels("cityscapes: detection", self.detection, LABELS)
        if not self.cap > 0:
            raise ValueError(f"cityscapes: cap is {self.cap}; expected metres: above 0")

    def classes(self) -> ClassMap:
        """Those of the maps; by default 8 classes of boxes (with ``signs`` 10) and 19 of pixels."""
        return class_map(self._things, self.segmentation, self.segmentation)

    def semantic_lut(self) -> tuple[int, ...]:
        """The ids 0..33 of labelIds.png -> class, or 255."""
        return semantic_lut(dict(enumerate(LABELS)), self.segmentation)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of the splits; FileNotFoundError where a folder is not there. Faults of a frame are kept."""
        root = place(self.root)
        for split, word in self.splits.items():
            for name in (self.images, *([] if word in self.unlabeled else [self.labels])):
                if not (root / name / word).is_dir():
                    raise FileNotFoundError(
                        f"{root / name / word}: no such folder; expected the {name} of Cityscapes' {word}: unpack it "
                        f"there, or correct data.root and data.splits"
                    )
            paths = sorted((root / self.images / word).glob(f"*/*_{self.images}.png"))
            read = partial(self._record, split=split, word=word, folder=folder)
            yield from (record for _, record in in_order(paths, read, _AHEAD))

    # ---- one frame --------------------------------------------------------------------------------------------------

    def _record(self, path: Place, split: str, word: str, folder: Path) -> Record:
        stem = path.name.removesuffix(f"_{self.images}.png")
        city, size = f"{word}/{path.parent.name}", _size_of(path)
        split = drawn_split(split, city, self.validation, 0.0)
        record = Record(stem, relative_uri(path, folder), size, split, city)
        if word in self.unlabeled or size == (0, 0):
            return record
        start = place(self.root) / self.labels / city / f"{stem}_{self.labels}"
        try:
            return replace(
                record,
                objects=self._objects(start, size),
                segmentation=relative_uri(_with(start, "_labelIds.png"), folder),
                depth=self._depth(city, stem, folder),
            )
        except AT_FAULT:
            raise  # the storage is at fault, not the frame
        except (OSError, ValueError) as error:
            return replace(record, fault=str(error))

    def _objects(self, start: Place, size: tuple[int, int]) -> tuple[ObjectRecord, ...]:
        things = list(dict.fromkeys(self._things.values()))
        found = {label: things.index(name) for label, name in self._things.items()}

        def kind(value: int) -> tuple[int, bool] | None:
            label = value // 1000 if value >= 1000 else value
            name = LABELS[label] if label < len(LABELS) else ""
            return (found[name], value < 1000) if name in found and name in _COUNTED else None

        objects = objects_of(_read_ids(_with(start, "_instanceIds.png"), size), kind)
        drawn = {label: index for label, index in found.items() if label not in _COUNTED}
        return (*objects, *_drawn_objects(_with(start, "_polygons.json"), size, drawn)) if drawn else objects

    def _depth(self, city: str, stem: str, folder: Path) -> str | None:
        path = place(self.root) / self.disparity / city / f"{stem}_disparity.png"
        if not (self.disparity and path.is_file()):
            return None
        camera = place(self.root) / self.camera / city / f"{stem}_camera.json"
        content, product = read_json(camera, {"extrinsic": dict, "intrinsic": dict}), 1.0
        for part, name in (("extrinsic", "baseline"), ("intrinsic", "fx")):
            value = check_key(content[part], name, (int, float), f"{camera}: {part}")
            if not 0 < value < 1e9:  # also what no float holds
                raise ValueError(f"{camera}: {part}: {name!r} is {value}; expected a number above 0: correct it")
            product *= value
        return depth_uri(relative_uri(path, folder), Disparity(product, self.cap))

    @property
    def _things(self) -> Mapping[str, str]:
        return {**self.detection, **(_same(SIGNS) if self.signs else {})}


def _with(start: Place, end: str) -> Place:
    return start.with_name(start.name + end)


def _size_of(path: Place) -> tuple[int, int]:
    """H, W by the head of an image; 0, 0 where it has none, which ``prepare`` will find."""
    try:
        with cast(BinaryIO, path.open("rb")) as file, Image.open(file) as image:
            return image.height, image.width
    except AT_FAULT:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0


def _read_ids(path: Place, size: tuple[int, int]) -> NDArray[np.int64]:
    """The numbers ``[H, W]`` of instanceIds.png."""
    image = opened_image(str(path), Path())
    if image.mode not in ("L", "I", "I;16"):
        raise ValueError(f"{path}: is a PNG of mode {image.mode}; expected 16-bit grey (ids of instances): restore it")
    _check_size(path, (image.height, image.width), size)
    return np.asarray(image).astype(np.int64)


def _drawn_objects(path: Place, size: tuple[int, int], labels: Mapping[str, int]) -> tuple[ObjectRecord, ...]:
    """The visible parts of the polygons of some labels. All polygons are drawn, later ones over earlier ones."""
    content = read_json(path, {"imgHeight": int, "imgWidth": int, "objects": list})
    _check_size(path, (content["imgHeight"], content["imgWidth"]), size)
    image = Image.new("I", size[::-1])
    draw, kinds = ImageDraw.Draw(image), {}
    for number, one in enumerate(content["objects"], start=1):
        where = f"{path}: objects[{number - 1}]"
        label = check_key(one, "label", str, where)
        points = _points(check_key(one, "polygon", list, where), where)
        if label in _NOT_DRAWN or len(points) < 3:
            continue
        draw.polygon(points, fill=number)
        crowd = label not in LABELS and label.endswith(_GROUP)
        name = label.removesuffix(_GROUP) if crowd else label
        if name in labels:
            kinds[number] = (labels[name], crowd)
    return objects_of(np.asarray(image).astype(np.int64), kinds.get)


def _points(polygon: list[Any], where: str) -> list[tuple[float, float]]:
    try:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if np.isfinite(points).all():
            return [(x, y) for x, y in points.tolist()]
    except (ValueError, TypeError, OverflowError):
        pass
    raise ValueError(f"{where}: the polygon is {str(polygon)[:60]}; expected pairs of numbers: correct it")


def _check_size(path: Place, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(found) != size:
        raise ValueError(
            f"{path}: is of {' x '.join(map(str, found))} px (H x W); expected its image's {size[0]} x {size[1]}: "
            f"restore it"
        )
