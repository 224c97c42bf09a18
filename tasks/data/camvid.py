"""CamVid with 11 classes: semantic maps, and boxes of its four thing classes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.classes import ClassMap
from tasks.data.coco import object_of, read_coco
from tasks.data.files import check_key, place, read_json, relative_uri, resolve
from tasks.data.manifest import Record


@dataclass(frozen=True)
class Camvid:
    """CamVid (Brostow, Fauqueur, Cipolla 2009) in a folder with annotations.json, classes.json, images/ and semantic/.

    annotations.json is COCO's form; each image also has ``sem_file_name``, ``sequence`` and ``split``; each category
    its class in the semantic maps, ``sem_id``. Boxes are those of connected regions of the maps.

    The published split cuts two of the drives: 0001TP is half train, half test, and the val frames of 0016E5 are a
    block in the middle of its train frames. So a group is "<sequence>/<split>" here: the lists are kept as published,
    but val frames resemble the train frames around them, and figures on val flatter.
    """

    root: str  # a folder, or s3://bucket/prefix
    size: tuple[int, int] | None = None  # H, W on reading

    def classes(self) -> ClassMap:
        """The 4 classes of boxes and the 11 classes of pixels, in the files' order."""
        categories = self._content["categories"]
        to = tuple(self._names.index(self._class_of(one)) for one in categories)
        return ClassMap(tuple(one["name"] for one in categories), self._names, to)

    def semantic_lut(self) -> tuple[int, ...]:
        """The ids of classes.json; 255 is ignore, and no other value may occur."""
        lut = [-1] * 255 + [255]
        for value, name in self._by_id.items():
            lut[value] = self._names.index(name)
        return tuple(lut)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of the three splits."""
        root = place(self.root)
        labels = {one["id"]: i for i, one in enumerate(self._content["categories"])}
        objects = defaultdict(list)
        for one in self._content["annotations"]:
            objects[one["image_id"]].append(one)
        for i, image in enumerate(self._content["images"]):
            split, sequence, semantic = (
                check_key(image, name, str, f"{root / 'annotations.json'}: images[{i}]")
                for name in ("split", "sequence", "sem_file_name")
            )
            size = (image["height"], image["width"])
            yield Record(
                id=PurePosixPath(image["file_name"]).stem,
                uri=relative_uri(resolve(image["file_name"], root), folder),
                size=size,
                split=split,
                group=f"{sequence}/{split}",
                objects=tuple(object_of(one, labels, size) for one in objects[image["id"]]),
                segmentation=relative_uri(resolve(semantic, root), folder),
            )

    def _class_of(self, category: Mapping[str, Any]) -> str:
        where = f"{self.root}/annotations.json: category {category['name']!r}"
        value = check_key(category, "sem_id", int, where)
        if value not in self._by_id:
            raise ValueError(f"{where}: 'sem_id' is {value}; expected an id of classes.json: correct one of them")
        return self._by_id[value]

    @cached_property
    def _content(self) -> dict[str, Any]:
        return read_coco(place(self.root) / "annotations.json")

    @cached_property
    def _by_id(self) -> Mapping[int, str]:
        """Value of a semantic map -> class name."""
        path = place(self.root) / "classes.json"
        found = {}
        for i, one in enumerate(read_json(path, {"classes": list})["classes"]):
            value = check_key(one, "id", int, f"{path}: classes[{i}]")
            if not 0 <= value < 255:
                raise ValueError(f"{path}: classes[{i}] has id {value}; expected 0..254, as 8-bit PNGs hold")
            found[value] = str(check_key(one, "name", str, f"{path}: classes[{i}]"))
        return found

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._by_id.values())
