"""Labels from Label Studio: its JSON export, or its short form JSON-MIN, as a data set and as a combined COCO file."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image, ImageOps

from tasks.classes import ClassMap
from tasks.data.coco import object_of
from tasks.data.combined import KeypointSlots, writing_combined
from tasks.data.files import Place, relative_uri, write_bytes
from tasks.data.json_lists import read_elements
from tasks.data.label_config import KeypointLabel, LabelSchema, schema_of_config
from tasks.data.label_objects import annotation_of, objects_of
from tasks.data.label_regions import LeftOut, Regions, regions_of
from tasks.data.label_tasks import KEPT
from tasks.data.manifest import Record
from tasks.data.splits import check_shares, drawn_split
from tasks.geometry import Size

LEFT_OUT = "left_out.csv"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what the server puts before the name of a file that was uploaded


@dataclass(frozen=True)
class Answer:
    """What one person labeled of one task."""

    task: str
    data: Mapping[str, Any]  # of the task: where its image is
    results: Sequence[Mapping[str, Any]] | None  # None: nobody has labeled it yet
    rank: tuple[Any, ...] = ()  # of several answers to a task the highest counts
    has_ids: bool = True  # False in JSON-MIN


@dataclass(frozen=True)
class Labeled:
    """One image with what was labeled on it."""

    answer: Answer
    path: str  # of the image
    size: Size  # H, W
    annotations: list[dict[str, Any]] | None  # without ids; None = not labeled
    left_out: list[LeftOut]


@dataclass(frozen=True)
class LabelStudio:
    """An export of a Label Studio project. The fields are the YAML keys; paths are relative to ``root``::

        data: {name: label_studio, root: /data/engine, export: export.json, images: images}

    Export with the format JSON: only there are the links that people made between regions. Of several answers to a task
    the one that is marked as ground truth counts, else the latest; tasks that were only skipped are left out.

    A polygon or brush is one object; parts that are linked (a parent region, a relation called "same", an equal
    ``group``) are one; its box are the outer bounds of these, whatever rectangle was drawn around it. Keypoints belong
    to the object they are linked to, else to the smallest one that holds them. A task whose data have a ``depth_file``
    (a path below ``root``) has a depth map.
    """

    root: str
    export: str = "export.json"  # JSON or JSON-MIN
    config: str = ""  # the labelling configuration, XML; "" = label_config.xml, where there is one
    images: str = ""  # the folder of the images
    keypoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # class: its keypoint labels in order
    strict: bool = True  # refuse shapes that cannot be used; False: they are left out and listed in left_out.csv
    group: str = ""  # the key of a task's data that names its scene; "" = every image is its own
    validation: float = 0.0  # share of the images (whole scenes) that becomes val, drawn by hashing
    test: float = 0.0  # likewise
    size: tuple[int, int] | None = None  # H, W on reading

    def __post_init__(self) -> None:
        check_shares("label_studio", self.validation, self.test)

    def classes(self) -> ClassMap:
        """The classes and keypoints, as the labelling configuration (else the export) has them."""
        slots = KeypointSlots(self.categories)
        names = self.schema.classes
        return ClassMap(names, (), (-1,) * len(names), slots.names, slots.flip_pairs, slots.skeleton)

    def semantic_lut(self) -> tuple[int, ...]:
        """No value is a class: there are no semantic maps."""
        return (-1,) * 255 + (255,)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of the export; ValueError where it cannot be used. Tasks without an answer have no labels."""
        slots, left_out = KeypointSlots(self.categories), list[LeftOut]()
        labels = {one["id"]: i for i, one in enumerate(self.categories)}
        for one in self.labeled():
            left_out += one.left_out
            found = one.annotations
            id = relative_uri(Path(self.root) / one.path, Path(self.root))
            group = str(one.answer.data.get(self.group, "")) if self.group else ""
            given, depth = str(one.answer.data.get("split", "train")), one.answer.data.get("depth_file")
            yield Record(
                id=id,
                uri=relative_uri(Path(self.root) / one.path, folder),
                size=one.size,
                split=drawn_split(given, group or id, self.validation, self.test),
                group=group,
                objects=None
                if found is None
                else tuple(object_of({**each, "keypoints": slots.placed(each)}, labels, one.size) for each in found),
                depth=relative_uri(Path(self.root) / str(depth), folder) if depth else None,
            )
        if left_out:
            write_bytes(LEFT_OUT, folder, _csv(left_out))

    # ---- tasks ----

    @cached_property
    def schema(self) -> LabelSchema:
        """The classes and keypoints. ValueError where a keypoint could be of several classes."""
        path = Path(self.root) / (self.config or "label_config.xml")
        if self.config or path.is_file():
            found = schema_of_config(path.read_text(encoding="utf-8"), str(path)).owned(self.keypoints)
        else:
            found = self._seen.owned(self.keypoints)
        if all(one.owner in found.classes for one in found.keypoints):
            return found
        owners = self._linked_classes or (found.classes if len(found.classes) == 1 else ())
        lost = [one.label for one in found.keypoints if one.owner not in found.classes]
        if not owners:
            raise ValueError(
                f"{self._path}: nothing says which class has the keypoints {', '.join(lost[:5])}; expected one: set "
                f"keypoints: {{class: [{', '.join(lost[:2])}, ...]}} in data"
            )
        return found.owned({name: lost for name in owners})

    @cached_property
    def categories(self) -> list[dict[str, Any]]:
        """Those of the combined COCO file."""
        return self.schema.categories()

    def labeled(self) -> Iterator[Labeled]:
        """Every image with its annotations. ValueError says which task cannot be used, and why."""
        categories = {one["name"]: one for one in self.categories}
        points = {name: [one for one in self.schema.keypoints if one.owner == name] for name in categories}
        for answer in self._answers():
            regions = (
                Regions(None) if answer.results is None else regions_of(answer.results, answer.task, answer.has_ids)
            )
            objects, left_out = objects_of(regions, self.schema, answer.task)
            if left_out and self.strict:
                raise ValueError(
                    f"{self._path}: {left_out[0]}"
                    + (f" ({len(left_out) - 1} more in this task)" if len(left_out) > 1 else "")
                    + f"; or set strict: false to leave such regions out (they are listed in {LEFT_OUT})"
                )
            path = self._image(answer)
            size = regions.size or _size_of(answer, Path(self.root) / path)
            found = [annotation_of(one, categories[one.label], points[one.label], size) for one in objects]
            yield Labeled(answer, path, size, None if answer.results is None else found, left_out)

    def _answers(self) -> Iterator[Answer]:
        """The answer of each task that counts."""
        for _, answers in groupby(self._entries(), key=lambda one: one.task):
            given = list(answers)
            if any(one.results is not None or not one.rank for one in given):
                yield max(given, key=lambda one: (one.results is not None, one.rank))

    def _entries(self) -> Iterator[Answer]:
        """Every answer of every task; of one that was only skipped, answers without results."""
        for number, one in enumerate(read_elements(self._path)):
            where = f"{self._path}: task {number}"
            if not one.is_listed or not isinstance(one.value, dict):
                raise ValueError(f"{where}: is no task; expected a list of tasks: export the project as JSON")
            yield from _answers_of(one.value, where)

    @property
    def _path(self) -> Path:
        return Path(self.root) / self.export

    @cached_property
    def _seen(self) -> LabelSchema:
        """What the export itself shows, where no configuration is at hand: labels in the order of the alphabet."""
        classes: set[str] = set()
        points: set[str] = set()
        for answer in self._entries():
            for one in regions_of(answer.results or (), answer.task, answer.has_ids).shapes:
                (points if one.kind == "keypoint" else classes).add(one.label)
        owners = {label: next((c for c in sorted(classes) if label.startswith(f"{c}.")), "") for label in points}
        return LabelSchema(tuple(sorted(classes)), tuple(KeypointLabel(one, owners[one]) for one in sorted(points)))

    @cached_property
    def _linked_classes(self) -> tuple[str, ...]:
        """The classes of the shapes that keypoints are linked to, in the order of the alphabet."""
        found: set[str] = set()
        for answer in self._entries():
            regions = regions_of(answer.results or (), answer.task, answer.has_ids)
            labels = {one.name: one.label for one in regions.shapes if one.kind != "keypoint"}
            found |= {labels[one.parent] for one in regions.shapes if one.kind == "keypoint" and one.parent in labels}
            names = {one.name for one in regions.shapes if one.kind == "keypoint"}
            found |= {labels[a] for a, b, _ in regions.links if a in labels and b in names}
            found |= {labels[b] for a, b, _ in regions.links if b in labels and a in names}
        return tuple(sorted(found))

    def _image(self, answer: Answer) -> str:
        """Where the image of a task is: below ``root``, or an absolute path."""
        key = self.schema.image if self.schema.image in answer.data else "image"
        uri = answer.data.get(key)
        if not isinstance(uri, str) or not uri:
            raise ValueError(
                f"{self._path}: task {answer.task}: has the data {str(dict(answer.data))[:60]}; expected the path of "
                f"its image as {key!r}: export the project again"
            )
        names = image_names(uri)
        folder = Path(self.root) / self.images
        return str(Path(self.images) / next((name for name in names if (folder / name).is_file()), names[-1]))


def image_names(uri: str) -> list[str]:
    """Where the image that a task names may be, likely ones first.

    The path behind ``/data/local-files/?d=``, the path itself, and its last part, with and without the 8 characters
    that the server puts before an uploaded file.
    """
    parts = urlsplit(uri)
    path = unquote(parts.path)
    local = parse_qs(parts.query).get("d")
    if local:
        path = local[0]
    name = path.rsplit("/", 1)[-1]
    plain = [] if parts.scheme or path.startswith("/data/") else [path]
    return list(dict.fromkeys([*plain, path.lstrip("/"), name, _UPLOADED.sub("", name)]))


def write_combined(source: LabelStudio, out: Place) -> tuple[dict[str, int], list[LeftOut]]:
    """Write an export as a combined COCO file; how many images and annotations it has, and what was left out."""
    left_out: list[LeftOut] = []
    with writing_combined(out) as writer:
        writer.head = {"categories": source.categories}
        for image, annotations, rest in combined_entries(source):
            writer.add(image, annotations)
            left_out += rest
        return writer.counts, left_out


def combined_entries(source: LabelStudio) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], list[LeftOut]]]:
    """Each image of an export with its annotations, as the combined COCO file has them."""
    number = 0
    for index, one in enumerate(source.labeled(), start=1):
        data = one.answer.data
        image: dict[str, Any] = {
            "id": data.get("image_id", index),
            "file_name": one.path,
            "height": one.size[0],
            "width": one.size[1],
            "has": {
                "detection": one.annotations is not None,
                "segmentation": False,
                "depth": bool(data.get("depth_file")),
                "keypoints": one.annotations is not None and bool(source.schema.keypoints),
            },
            "ls_task_id": one.answer.task,
        }
        image |= {key: data[key] for key in KEPT if data.get(key)}
        found = []
        for each in one.annotations or ():
            number += 1
            found.append({"id": number, "image_id": image["id"], **each})
        yield image, found, one.left_out


def _answers_of(task: Mapping[str, Any], where: str) -> Iterator[Answer]:
    """The answers in one entry of an export: all those of a task in JSON, one in JSON-MIN."""
    id = task.get("id", task.get("task_id"))
    if id is None:
        raise ValueError(f"{where}: has the keys {', '.join(task)[:60]}; expected an id: export the project again")
    given = task.get("annotations", task.get("completions"))
    if given is None and "result" not in task and "data" not in task:
        short: list[dict[str, Any]] = [
            {"from_name": key, "value": one}
            for key, value in task.items()
            if isinstance(value, list)
            for one in value
            if isinstance(one, Mapping) and "original_width" in one
        ]
        yield Answer(
            str(id), task, short, (False, str(task.get("updated_at")), _number(task.get("annotation_id"))), False
        )
        return
    data = task.get("data")
    if not isinstance(data, Mapping) or not _are_objects(given or []):
        raise ValueError(
            f"{where} (id {id}): has the data {str(data)[:40]!r} and annotations {str(given)[:40]!r}; expected an "
            f"object and a list of objects: export the project as JSON or JSON-MIN"
        )
    if not given:
        yield Answer(str(id), data, None)
    for one in given or ():
        results = None if one.get("was_cancelled") else one.get("result", [])
        if results is not None and not _are_objects(results):
            raise ValueError(
                f"{where} (id {id}): has the result {str(results)[:40]!r}; expected a list of objects: export again"
            )
        yield Answer(
            str(id), data, results, (bool(one.get("ground_truth")), str(one.get("updated_at")), _number(one.get("id")))
        )


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _number(id: object) -> int:
    """Ids of one task that can be compared."""
    return id if isinstance(id, int) else 0


def _size_of(answer: Answer, path: Path) -> Size:
    """H, W of an image as it is shown, for a task without a region: as its data say, else as the image is."""
    told = answer.data.get("height"), answer.data.get("width")
    if isinstance(told[0], int) and isinstance(told[1], int):
        return told[0], told[1]
    try:
        with Image.open(path) as image:
            width, height = (ImageOps.exif_transpose(image) if image.getexif() else image).size
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"task {answer.task}: has no region, and its image cannot be opened ({error}); expected it there: set "
            f"images to the folder of the images"
        ) from None
    return height, width


def _csv(left_out: Sequence[LeftOut]) -> bytes:
    text = StringIO()
    rows = csv.writer(text)
    rows.writerow(["task", "region", "sentence"])
    rows.writerows([one.task, one.region, one.sentence] for one in left_out)
    return text.getvalue().encode()
