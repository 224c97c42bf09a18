"""The combined COCO file: boxes, polygons or run-length masks, and keypoints in one annotation.

It is COCO's own form (pycocotools reads it unchanged) with some more keys: an image may say which labels it ``has``
({"detection": true, ...}; without it, all), its ``split``, ``sem_file_name`` and ``depth_file``; an annotation its
``source`` ("human", "converted", "pseudo:..."), its ``ls_region_id`` and ``ls_box``; a category has keypoints of its
own, and their ``flip_pairs``. Keys that are not known here are kept. Coordinates have continuous edges.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from sys import float_info
from typing import Any, TextIO

import numpy as np

from tasks.data.annotation_index import LISTS, AnnotationIndex, check_entries
from tasks.data.files import Place, check_key, staged
from tasks.data.json_lists import read_elements
from tasks.geometry import rle_of


class CombinedFile:
    """A combined COCO file that is read an image at a time, its annotations with it, wherever they stand.

    Held in memory: what ``AnnotationIndex`` holds.
    """

    def __init__(self, path: Place) -> None:
        """Reads the file once; ValueError names the entry that cannot be used, and what was expected."""
        self.path = path
        self._index = AnnotationIndex(path, lambda kind, number, entry: None)
        self._schemas = {one["id"]: one for one in check_categories(self.head, str(path))}

    @property
    def head(self) -> dict[str, Any]:
        """All keys of the file but images and annotations."""
        return self._index.head

    @property
    def images(self) -> int:
        """How many there are."""
        return self._index.images

    @property
    def annotations(self) -> int:
        """How many there are."""
        return self._index.annotations

    @property
    def categories(self) -> list[dict[str, Any]]:
        return list(self._schemas.values())

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each image with its annotations, both in the order of the file. ValueError for one that cannot be used."""
        for number, (image, annotations) in enumerate(self._index):
            where = f"{self.path}: images[{number}]"
            size = check_key(image, "height", int, where), check_key(image, "width", int, where)
            check_key(image, "file_name", str, where)
            for one in annotations:
                check_annotation(one, self._schemas, size, f"{self.path}: annotation {one.get('id')!r}")
            yield image, annotations

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """("images" or "annotations", entry), all in the order of the file, unchecked."""
        return ((one.key, one.value) for one in read_elements(self.path, LISTS) if one.is_listed)


class CombinedWriter:
    """Writes a combined COCO file an image at a time."""

    def __init__(self, images: TextIO, annotations: TextIO) -> None:
        self._streams = {"images": images, "annotations": annotations}
        self.counts = dict.fromkeys(LISTS, 0)
        self.head: dict[str, Any] = {"categories": []}  # the other keys of the file; may be set until the end

    def add(self, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> None:
        """One more image and its annotations. ValueError for a number that JSON does not have."""
        self.add_entry("images", image)
        for one in annotations:
            self.add_entry("annotations", one)

    def add_entry(self, name: str, value: Mapping[str, Any]) -> None:
        """One more entry of "images" or "annotations"."""
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=_plain)
        except ValueError:
            raise ValueError(
                f"{name}: {str(value)[:80]} holds NaN or an infinite number; expected finite ones"
            ) from None
        self._streams[name].write(f"{',' if self.counts[name] else ''}\n{text}")
        self.counts[name] += 1


@contextmanager
def writing_combined(path: Place) -> Iterator[CombinedWriter]:
    """What writes a combined COCO file: it is there, whole, when the block ends well. Little is held in memory."""
    with staged(path) as draft, ExitStack() as stack:
        spool = draft.with_name(draft.name + ".spool")
        stack.callback(spool.unlink, missing_ok=True)
        with draft.open("w", encoding="utf-8") as images, spool.open("w+", encoding="utf-8") as annotations:
            writer = CombinedWriter(images, annotations)
            images.write('{"images":[')
            yield writer
            images.write('\n],\n"annotations":[')
            annotations.seek(0)
            shutil.copyfileobj(annotations, images, 1 << 20)
            images.write("\n]")
            for key, value in writer.head.items():
                images.write(f",\n{json.dumps(key)}:{json.dumps(value, allow_nan=False, default=_plain)}")
            images.write("\n}\n")


def check_categories(head: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The categories of a file. ValueError names the one that is not whole."""
    categories = check_entries(head, where)
    for key in ("id", "name"):
        if len({one[key] for one in categories}) < len(categories):
            raise ValueError(f"{where}: two categories have the same {key}; expected one {key} each: rename one")
    return categories


def check_annotation(
    one: Mapping[str, Any], categories: Mapping[int, Mapping[str, Any]], size: tuple[int, int], where: str
) -> None:
    """ValueError where an annotation of an image of H, W is not what the format says."""
    category = categories.get(check_key(one, "category_id", int, where))
    if category is None:
        raise ValueError(f"{where}: is of category {one['category_id']}; expected the id of one of categories: add it")
    box = check_key(one, "bbox", list, where)
    for name, value in (("bbox", box), ("ls_box", one.get("ls_box", box))):
        if not isinstance(value, list) or len(value) != 4 or not are_finite(value):
            raise ValueError(
                f"{where}: has the {name} {str(value)[:60]}; expected four numbers x, y, width, height: correct it"
            )
    if one.get("segmentation"):
        try:
            rle_of(one["segmentation"], size)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {error}: correct the mask") from None
    points, names = one.get("keypoints"), category.get("keypoints") or ()
    if points is None:
        return
    whole = isinstance(points, list) and len(points) == 3 * len(names) and are_finite(points)
    if not whole or not set(points[2::3]) <= {0, 1, 2}:
        raise ValueError(
            f"{where}: has the keypoints {str(points)[:60]}; expected {len(names)} times x, y, v with v of 0, 1, 2, as "
            f"the category {category['name']!r} lists them: correct them"
        )


class KeypointSlots:
    """The keypoints of all categories in one list, which a manifest needs, and where those of each category are.

    One list that several categories have is there once; different ones follow each other, their names with that of
    the category before them: "bolt.head".
    """

    def __init__(self, categories: Sequence[Mapping[str, Any]]) -> None:
        lists: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for one in categories:
            if one.get("keypoints"):
                lists.setdefault(tuple(one["keypoints"]), []).append(one)
        self.names: tuple[str, ...] = ()
        self.flip_pairs: tuple[tuple[int, int], ...] = ()
        self.skeleton: tuple[tuple[int, int], ...] = ()
        self._starts: dict[int, int] = {}
        for names, owners in lists.items():
            start, prefix = len(self.names), f"{owners[0]['name']}." if len(lists) > 1 else ""
            self.names += tuple(name if name.startswith(prefix) else prefix + name for name in names)
            self.flip_pairs += tuple((a + start, b + start) for a, b in flip_pairs(owners[0]))
            self.skeleton += tuple((a + start, b + start) for a, b in _skeleton(owners[0]))
            self._starts |= {one["id"]: start for one in owners}

    def placed(self, annotation: Mapping[str, Any]) -> tuple[float, ...]:
        """The keypoints of an annotation among all of them; () where it has none."""
        own = annotation.get("keypoints") or ()
        if not isinstance(own, list | tuple):
            return own  # type: ignore[no-any-return]  # also what is no list: ``prepare`` judges
        own = tuple(own)
        start = self._starts.get(annotation["category_id"], 0)
        if not own or (start == 0 and len(own) >= 3 * len(self.names)):
            return own  # also what has too many: ``prepare`` judges
        return (0.0,) * (3 * start) + own + (0.0,) * (3 * len(self.names) - 3 * start - len(own))


def flip_pairs(category: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Which keypoints change places in a mirrored image: as the category says, else by "left" and "right"."""
    if "flip_pairs" in category:
        return tuple((int(a), int(b)) for a, b in category["flip_pairs"])
    names = list(category.get("keypoints") or ())
    pairs = [(i, n.replace("left", "right")) for i, n in enumerate(names) if "left" in n]
    return tuple((i, names.index(mirror)) for i, mirror in pairs if mirror in names)


def _skeleton(category: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """The pairs of keypoints with a line between, from 0 (COCO counts from 1); what is no such pair is left out."""
    points, lines = range(1, len(category["keypoints"]) + 1), category.get("skeleton")
    pairs = [p for p in lines if isinstance(p, list) and len(p) == 2] if isinstance(lines, list) else []
    return tuple((a - 1, b - 1) for a, b in pairs if a in points and b in points)


def are_finite(values: Sequence[object]) -> bool:
    """Whether all are numbers that a float can hold."""
    return all(isinstance(v, int | float) and -float_info.max <= v <= float_info.max for v in values)


def _plain(value: object) -> object:
    """What JSON does not know: the counts of a mask, numbers of numpy."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
