"""nuImages: boxes and masks of objects, and masks of surfaces, in the key frames of cameras on cars."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.classes import ClassMap
from tasks.data.files import Place, place, relative_uri, resolve
from tasks.data.json_lists import rows
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.nuimages_tables import Annotated, Annotation, annotated_images
from tasks.data.semantic_maps import (
    IGNORE,
    box_of,
    check_canvas,
    clipped,
    fill_box,
    is_newer,
    painted_classes,
    painted_lut,
    write_map,
)
from tasks.data.splits import check_shares, drawn_split
from tasks.geometry import mask_of_rle

OBJECTS = {  # the ten classes of the official detection task
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
SURFACES = {"flat.driveable_surface": "driveable_surface"}
_ENDLESS = b"\x60"


@dataclass(frozen=True)
class NuImages:
    """nuImages (Caesar et al. 2020) in a folder with v1.0-train, v1.0-val, samples, ... The fields are the YAML keys.

    ``objects`` and ``surfaces`` map the names of category.json to classes; several may share one. Categories in neither
    (animals, strollers, emergency vehicles, the ego car, ...) give no box, and their pixels are 255, ignored. Pixels
    under no mask are the class "background".

    Semantic maps are painted as the official devkit does: surfaces first, then objects in the order of their tokens,
    later ones over earlier ones; an object without a mask is not painted. They are kept as PNGs under the manifest's
    folder. Boxes are amodal: they cover hidden parts, too, and are cut at the border of the image. ``prepare`` lists
    masks that are broken: that of a surface costs the image, that of an object only the object, whose box is ignored in
    the map.

    A drive (a log) is a scene. The published splits are kept as they are, so a scene is called "<version>/<log>".
    """

    root: str  # a folder, or s3://bucket/prefix
    versions: Mapping[str, str] = field(default_factory=lambda: {"train": "v1.0-train", "val": "v1.0-val"})  # by split
    channel: str = "CAM_FRONT"  # of the camera; "" = all of them
    objects: Mapping[str, str] = field(default_factory=lambda: dict(OBJECTS))  # category: class with boxes and pixels
    surfaces: Mapping[str, str] = field(default_factory=lambda: dict(SURFACES))  # category: class of pixels alone
    validation: float = 0.0  # share of train (whole drives) that becomes val, drawn by hashing: the same in every run
    test: float = 0.0  # likewise
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("nuimages", self.validation, self.test)
        if not self.versions or not self.objects:
            raise ValueError("nuimages: versions or objects is empty; expected at least one entry of each")

    def classes(self) -> ClassMap:
        """Background, surfaces and objects; the data are not looked at."""
        return painted_classes(self.surfaces.values(), self.objects.values())

    def semantic_lut(self) -> tuple[int, ...]:
        return painted_lut(self.classes())

    def records(self, folder: Path) -> Iterator[Record]:
        """Every key frame of the camera; objects with faults are yielded: ``prepare`` judges."""
        for split, version in self.versions.items():
            tables = place(self.root) / version
            if not tables.is_dir():
                raise FileNotFoundError(
                    f"{tables}: no such folder; expected the tables of nuImages: set data.root to the folder that "
                    f"holds {version}, or correct data.versions"
                )
            self._check_names(tables)
            sources = (tables / "object_ann.json", tables / "surface_ann.json")
            for image, is_labeled in annotated_images(tables, self.channel):
                yield self._record(image, version, split, folder, sources, is_labeled)

    def _record(
        self, image: Annotated, version: str, split: str, folder: Path, sources: tuple[Place, Place], is_labeled: bool
    ) -> Record:
        made = folder / "semantic" / f"{version}-{self._mark}" / image.token[:2] / f"{image.token}.png"
        labels, fault = {name: i for i, name in enumerate(self.classes().detection)}, ""
        try:
            if not image.token.isalnum():
                raise ValueError(f"sample_data.json: has the token {image.token[:40]!r}; expected letters and digits")
            check_canvas(image.size)
            if is_labeled and not is_newer(made, sources):
                write_map(made, self._painted(image))
        except ValueError as error:
            fault = f"{error}: correct or delete the row"
        objects = tuple(
            ObjectRecord(clipped(box_of(one.box), image.size), labels[self.objects[one.category]], rle=_rle(one))
            for one in image.objects
            if one.category in self.objects
        )
        return Record(
            id=image.filename,
            uri=relative_uri(resolve(image.filename, place(self.root)), folder),
            size=image.size,
            split=drawn_split(split, image.log, self.validation, self.test),
            group=f"{version}/{image.log}",
            objects=objects if is_labeled else None,
            segmentation=relative_uri(made, folder) if is_labeled else None,
            fault=fault,
        )

    def _painted(self, image: Annotated) -> NDArray[np.uint8]:
        """Class ids ``[H, W]``; ValueError where the mask of a surface is broken."""
        names = self.classes().segmentation
        ids = {category: names.index(name) for category, name in {**self.surfaces, **self.objects}.items()}
        values = np.zeros(image.size, np.uint8)
        for one in image.surfaces:
            try:
                _paint(values, one, ids.get(one.category, IGNORE))
            except ValueError as error:
                raise ValueError(f"surface_ann.json: surface {one.token}: {error}") from None
        for one in image.objects:
            try:
                _paint(values, one, ids.get(one.category, IGNORE))
            except ValueError:  # its record keeps the mask as it is, so that ``prepare`` tells
                fill_box(values, box_of(one.box), IGNORE)
        return values

    @property
    def _mark(self) -> str:
        """What painted maps depend on, beside the tables."""
        return sha256(dumps([list(self.surfaces.items()), list(self.objects.items())]).encode()).hexdigest()[:8]

    def _check_names(self, tables: Place) -> None:
        path = tables / "category.json"
        known = {row["name"] for row in rows(path, {"name": str})}
        for key, mapping in (("objects", self.objects), ("surfaces", self.surfaces)):
            if unknown := [name for name in mapping if name not in known]:
                raise ValueError(
                    f"{path}: has no category {unknown[0]!r}, which data.{key} names; expected one of "
                    f"{', '.join(sorted(known))}: correct data.{key}"
                )


def _paint(values: NDArray[np.uint8], one: Annotation, value: int) -> None:
    """Paint a mask where there is one; ValueError where it is broken or of another size."""
    rle = _rle(one)
    if rle is None:
        return
    if tuple(rle["size"]) != values.shape:
        height, width = values.shape
        raise ValueError(f"its mask is of {rle['size']} px (H, W); expected the image's {height}, {width}")
    values[mask_of_rle(rle)] = value


def _rle(one: Annotation) -> Mapping[str, Any] | None:
    """The mask as COCO's RLE (nuImages has base64 of its counts); what is not base64 becomes counts that never end."""
    if one.mask is None:
        return None
    counts, size = one.mask.get("counts"), one.mask.get("size")
    try:
        decoded = b64decode(counts, validate=True) if isinstance(counts, str) else _ENDLESS
    except ValueError:
        decoded = _ENDLESS
    is_size = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return {"size": size if is_size else [0, 0], "counts": decoded}
