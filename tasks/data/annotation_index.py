"""Where the images and annotations of a COCO file stand: it is read an image at a time, however large it is."""

from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from mmap import ACCESS_READ, mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.files import Place, check_key, listed_file
from tasks.data.json_lists import read_elements, read_object
from tasks.seeding import key_of

LISTS = ("images", "annotations")
Check = Callable[
    [str, int, dict[str, Any]], None
]  # (of LISTS, number in it, entry): ValueError where it cannot be used


class AnnotationIndex:
    """A COCO file whose images come with their annotations, wherever these stand in it.

    Held in memory: all but the two lists, and 20 bytes for each image and each annotation. The file must not change.
    """

    def __init__(self, path: Place, check: Check) -> None:
        """Reads the file once; ValueError names the entry that cannot be used, and what was expected."""
        self.path = path
        self.head: dict[str, Any] = {}  # all keys of the file but images and annotations
        self._file = listed_file(path)
        images, owners, begun = _Spans(), _Spans(), list[str]()
        for one in read_elements(path, LISTS, begun):
            if not one.is_listed:
                self.head[one.key] = one.value
                continue
            spans, name = (images, "id") if one.key == "images" else (owners, "image_id")
            number = len(spans.keys)
            if not isinstance(one.value, dict) or type(one.value.get(name)) not in (int, str):
                check_key(one.value, name, (int, str), f"{path}: {one.key}[{number}]")
            check(one.key, number, one.value)
            spans.add(_id_key(one.value[name]), one.offset, one.length)
        for name in LISTS:
            if name not in begun:
                check_key({**self.head, **dict.fromkeys(begun)}, name, list, str(path))
        self._images, self._image_places = images.arrays()
        owned, places = owners.arrays()
        order = None if len(owned) < 2 or (owned[:-1] <= owned[1:]).all() else np.argsort(owned, kind="stable")
        self._order = order
        self._owners, self._places = (owned, places) if order is None else (owned[order], places.taken(order))
        self._check_owners()

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self._images)

    @property
    def annotations(self) -> int:
        """How many there are."""
        return len(self._owners)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each image with its annotations, both in the order of the file. May be read by several threads at a time."""
        for number, key in enumerate(self._images):
            yield self._image_places.read(self._text, number), self._of(key)

    def of(self, id: int | str) -> list[dict[str, Any]]:
        """The annotations of an image, in the order of the file; none of an image that it does not hold."""
        return self._of(np.uint64(_id_key(id)))

    @cached_property
    def _text(self) -> mmap:
        with self._file.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def _of(self, key: np.uint64) -> list[dict[str, Any]]:
        first, end = self._owners.searchsorted(key, "left"), self._owners.searchsorted(key, "right")
        return [self._places.read(self._text, number) for number in range(int(first), int(end))]

    def _check_owners(self) -> None:
        """Every image once, and every annotation of one of them."""
        known, first = np.unique(self._images, return_index=True)
        if len(known) < len(self._images):
            number = int(np.setdiff1d(np.arange(len(self._images)), first)[0])
            raise ValueError(
                f"{self.path}: images[{number}] has the id of an image before it; expected one id each: correct it"
            )
        found = known.searchsorted(self._owners)
        found[found == len(known)] = 0
        strange = np.flatnonzero(known[found] != self._owners) if len(known) else np.arange(self.annotations)
        if len(strange):
            at = int(strange[0])
            one = self._places.read(self._text, at)
            number = at if self._order is None else int(self._order[at])
            raise ValueError(
                f"{self.path}: annotations[{number}]: annotation {one.get('id')!r} is of image {one['image_id']!r}; "
                f"expected the id of one of images: correct it"
            )


class _Spans:
    """Keys of entries, and where these stand, as they are found."""

    def __init__(self) -> None:
        self.keys, self._offsets, self._lengths = array("Q"), array("Q"), array("I")

    def add(self, key: int, offset: int, length: int) -> None:
        self.keys.append(key)
        self._offsets.append(offset)
        self._lengths.append(length)

    def arrays(self) -> tuple[NDArray[np.uint64], "_Places"]:
        offsets, lengths = np.asarray(self._offsets, np.uint64), np.asarray(self._lengths, np.uint32)
        return np.asarray(self.keys, np.uint64), _Places(offsets, lengths)


class _Places:
    """Where entries stand."""

    def __init__(self, offsets: NDArray[np.uint64], lengths: NDArray[np.uint32]) -> None:
        self._offsets, self._lengths = offsets, lengths

    def taken(self, order: NDArray[np.int64]) -> "_Places":
        return _Places(self._offsets[order], self._lengths[order])

    def read(self, text: mmap, number: int) -> dict[str, Any]:
        start = int(self._offsets[number])
        found: dict[str, Any] = read_object(text[start : start + int(self._lengths[number])])
        return found


def check_entries(head: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The categories of a COCO file, each with an id and a name. ValueError names the one that is not whole."""
    categories: list[dict[str, Any]] = check_key(head, "categories", list, where)
    for number, one in enumerate(categories):
        _check_category(one, f"{where}: categories[{number}]")
    return categories


def _check_category(one: object, where: str) -> None:
    check_key(one, "id", int, where)
    check_key(one, "name", str, where)
    points = check_key({"keypoints": None, **one}, "keypoints", (list, type(None)), where) or ()  # type: ignore[dict-item]
    if not all(isinstance(name, str) for name in points):
        raise ValueError(f"{where}: has the keypoints {str(points)[:60]}; expected a list of names: correct them")
    pairs = check_key({"flip_pairs": [], **one}, "flip_pairs", list, where)  # type: ignore[dict-item]
    for pair in pairs:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(type(i) is int and 0 <= i < len(points) for i in pair)
        ):
            raise ValueError(
                f"{where}: has the flip_pairs {str(pairs)[:60]}; expected pairs of places in its keypoints: correct it"
            )


def _id_key(id: int | str) -> int:
    """64 bits for an image id: small integers are themselves."""
    return id if isinstance(id, int) and 0 <= id < 1 << 63 else key_of(str(id)) | 1 << 63
