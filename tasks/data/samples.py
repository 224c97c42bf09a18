"""Samples: pixels and labels of a record, decoded, at one size. Decoded images are kept in memory while they fit."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from sys import getsizeof
from threading import Lock

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tasks import LABEL_INPUTS, SENSORS
from tasks.classes import ClassMap
from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.files import Place
from tasks.data.known_labels import OBJECT_TASKS
from tasks.data.manifest import Manifest, ObjectRecord, Record, record_of
from tasks.data.objects import S3Path
from tasks.geometry import (
    affine_boxes,
    affine_keypoints,
    resize_nearest,
    rle_of_polygons,
    window_matrix,
    window_rles,
)
from tasks.types import IGNORE, Objects, Sample, Target

MASK_TASKS = ("instances", "keypoints", "pickup")  # tasks that look at masks: OKS divides by their area
AHEAD = 32  # images of object storage that are on their way at a time, for each Samples
_COLUMNS = {"segmentation": "segmentation", "depth": "depth"}


# ---- reading: record -> sample ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoded:
    """A sample as small as it can be kept: what ``Samples`` caches."""

    id: str
    image: Tensor  # [3, H, W] uint8
    objects: Objects | None
    segmentation: Tensor | None  # [H, W] uint8, 255 = ignore
    depth: Tensor | None  # [H, W] float32
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # {name: [c, H, W]}, shared: do not write to them

    def sample(self, tasks: Sequence[str]) -> Sample:
        """The sample, image in 0..1; a task that has no label is missing. Objects are shared: do not write to them."""
        targets: dict[str, Target] = {}
        if self.objects is not None:
            targets |= {task: self.objects for task in tasks if task in OBJECT_TASKS}
        if self.segmentation is not None:
            targets["segmentation"] = self.segmentation.long()
        if self.depth is not None:
            targets["depth"] = self.depth.clone()
        return Sample(id=self.id, image=self.image.float().div_(255), targets=targets, inputs=self.inputs)

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        parts: list[Tensor | None] = [self.image, self.segmentation, self.depth, *self.inputs.values()]
        total = 0
        if self.objects is not None:
            parts += [self.objects.boxes, self.objects.labels, self.objects.crowd, self.objects.keypoints]
            total += sum(400 + getsizeof(rle["counts"]) for rle in self.objects.rles if rle)
        return total + sum(p.nbytes for p in parts if p is not None) + 1000


def read_sample(
    record: Record,
    base: Place,
    size: tuple[int, int] | None,
    lut: Sequence[int],
    tasks: Sequence[str],
    classes: ClassMap,
) -> Sample:
    """The pixels and the labels of a record, everything resized to ``size`` alike (None: as stored).

    Image: bilinear with antialiasing; semantic maps, masks and depth: nearest. Masks are read for the task "instances"
    only, masks and keypoints for "keypoints" and "pickup". FileNotFoundError or ValueError name the file.
    """
    return decode(record, base, size, lut, tasks, classes).sample(tasks)


def decode(
    record: Record,
    base: Place,
    size: tuple[int, int] | None,
    lut: Sequence[int],
    tasks: Sequence[str],
    classes: ClassMap,
    sensors: Sequence[str] = (),
) -> Decoded:
    """What ``read_sample`` reads, in the small form that can be cached.

    ``sensors`` are what a model reads beside the image. Depth is 0 where it is not known; the sensor "segmentation" is
    the label itself, as class + 1, and 0 where nothing is known or the image has none.
    """
    size = size or record.size
    pixels = read_image(record.uri, base)
    _check_size(record.uri, pixels.shape[:2], record.size)
    if pixels.shape[:2] != size:
        pixels = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    segmentation = depth = objects = None
    if record.segmentation is not None and ("segmentation" in tasks or "segmentation" in sensors):
        values = read_semantic(record.segmentation, base)
        _check_size(record.segmentation, values.shape, record.size)
        segmentation = torch.from_numpy(class_ids(resize_nearest(values, size), lut, record.segmentation))
    if record.depth is None and "depth" in sensors:
        raise ValueError(f"{record.uri}: has no depth map; expected one, which the model reads: change model.inputs")
    if record.depth is not None and ("depth" in tasks or "depth" in sensors):
        metres = read_depth(record.depth, base)
        _check_size(record.depth, metres.shape, record.size)
        depth = torch.from_numpy(resize_nearest(metres, size))
    if record.objects is not None and any(task in OBJECT_TASKS for task in tasks):
        try:
            objects = _objects(record.objects, record.size, size, tasks, classes)
        except ValueError as error:
            raise ValueError(f"{record.uri}: an object has a bad label: {error}; prepare the data set again") from None
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    inputs = {} if depth is None or "depth" not in sensors else {"depth": depth.nan_to_num(nan=0.0)[None]}
    if "segmentation" in sensors:
        inputs["segmentation"] = torch.zeros(1, *size) if segmentation is None else _shown(segmentation)
    targets = (segmentation if "segmentation" in tasks else None, depth if "depth" in tasks else None)
    return Decoded(record.id, image, objects, *targets, inputs)


def _shown(segmentation: Tensor) -> Tensor:
    """``[1, H, W]`` float32: class + 1, and 0 for what is ignored, as ``tasks.nets.inputs.one_hot`` reads it."""
    return torch.where(segmentation == IGNORE, 0.0, segmentation.float() + 1)[None]


def class_ids(values: NDArray[np.uint8], lut: Sequence[int], where: str) -> NDArray[np.uint8]:
    """The class ids of the values of a semantic map; ValueError for values that the lut does not know (-1)."""
    table = np.asarray(lut, np.int64)
    unknown = np.flatnonzero((table < 0) & (np.bincount(values.ravel(), minlength=256) > 0))
    if unknown.size:
        raise ValueError(
            f"{where}: holds the values {unknown.tolist()[:8]}, which no class has; expected the values of the class "
            f"list, or 255: correct the map or the class list"
        )
    return table.astype(np.uint8)[values]


def _objects(
    records: Sequence[ObjectRecord],
    stored: tuple[int, int],
    size: tuple[int, int],
    tasks: Sequence[str],
    classes: ClassMap,
) -> Objects:
    whole = (0.0, 0.0, float(stored[1]), float(stored[0]))
    matrix = window_matrix(whole, size)
    boxes = torch.tensor([one.box for one in records], dtype=torch.float32).reshape(-1, 4)
    rles: tuple[Mapping[str, object] | None, ...] = ()
    keypoints = None
    if any(task in MASK_TASKS for task in tasks):
        rles = tuple(_rle(one, stored) for one in records)
        if size != stored:
            rles = window_rles(rles, whole, size)
    if ("keypoints" in tasks or "pickup" in tasks) and classes.keypoints:
        empty = (0.0,) * (3 * len(classes.keypoints))
        flat = torch.tensor([one.keypoints or empty for one in records], dtype=torch.float32)
        keypoints = affine_keypoints(flat.reshape(-1, len(classes.keypoints), 3), matrix, size)
    return Objects(
        boxes=boxes if size == stored else affine_boxes(boxes, matrix),
        labels=torch.tensor([one.label for one in records], dtype=torch.int64),
        crowd=torch.tensor([one.crowd for one in records], dtype=torch.bool),
        rles=rles,
        keypoints=keypoints,
    )


def _rle(one: ObjectRecord, size: tuple[int, int]) -> Mapping[str, object] | None:
    return one.rle if one.rle is not None or not one.polygons else rle_of_polygons(one.polygons, size)


def _check_size(uri: str, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        want = f"{expected[0]} x {expected[1]}"
        raise ValueError(
            f"{uri}: is {found[0]} x {found[1]} px (H x W); expected {want}, the size its image is listed with: "
            f"correct the file or the list"
        )


# ---- many samples ----------------------------------------------------------------------------------------------------


class Cache:
    """Decoded samples, least recently used first out, within a number of bytes. Several threads may use it."""

    def __init__(self, limit: int = 2 << 30) -> None:
        self._limit, self._held = limit, 0
        self._items: OrderedDict[object, Decoded] = OrderedDict()
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """How many bytes are held."""
        return self._held

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: object) -> Decoded | None:
        """What was put under this key, if it is still there."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: object, item: Decoded) -> None:
        """Keep an item, dropping the least recently used ones; one that is larger than the limit is not kept."""
        with self._lock:
            if key in self._items or item.nbytes > self._limit:
                return
            self._items[key] = item
            self._held += item.nbytes
            while self._held > self._limit:
                self._held -= self._items.popitem(last=False)[1].nbytes


class Samples:
    """Samples by manifest row, decoded once while they fit in the cache.

    ``rows`` limits the records that are held in memory (a shard, the labeled images); None = all. Pass one ``Cache`` to
    several Samples of the same process to decode each image once for all of them. Threads may share it.

    Images in object storage are read ahead, many at a time: the rows that ``expect`` has named, or else the next ones
    where rows are asked for in their order (as scoring and evaluation do).
    """

    def __init__(
        self,
        manifest: Manifest,
        tasks: Sequence[str],
        rows: NDArray[np.int64] | None = None,
        cache: Cache | None = None,
        sensors: Sequence[str] = (),
    ) -> None:
        known = (*SENSORS, *LABEL_INPUTS)
        if unknown := set(sensors) - set(known):
            raise ValueError(f"no sensor is called {sorted(unknown)[0]!r}; expected some of {', '.join(known)}")
        self._manifest, self._tasks, self._sensors = manifest, tuple(tasks), tuple(sensors)
        self._rows = np.unique(manifest.rows() if rows is None else rows)
        self._cache = Cache() if cache is None else cache
        columns = ["id", "uri", "height", "width", *(c for t, c in _COLUMNS.items() if t in (*tasks, *sensors))]
        if any(task in OBJECT_TASKS for task in self._tasks):
            columns.append("objects")
        self._table = manifest.take(self._rows, columns)
        self._is_remote = isinstance(manifest.base, S3Path) or bool(
            pc.any(pc.starts_with(self._table["uri"], "s3://")).as_py()
        )
        self._coming: dict[int, Future[Decoded]] = {}
        self._wanted: deque[int] = deque()  # rows to begin with as soon as fewer are on their way
        self._is_told = False  # whether somebody else says which rows come next
        self._last, self._lock = -2, Lock()  # index of the row that was asked for last

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The manifest rows in here, ascending."""
        return self._rows

    def record(self, row: int) -> Record:
        """The record of a manifest row, with the labels of these tasks; KeyError for a row that is not in here."""
        return record_of(self._table.slice(self._index(row), 1).to_pylist()[0])

    def _index(self, row: int) -> int:
        at = int(np.searchsorted(self._rows, row))
        if at == len(self._rows) or self._rows[at] != row:
            raise KeyError(f"row {row} is not among the {len(self._rows)} rows of these samples")
        return at

    def __getitem__(self, row: int) -> Sample:
        key, coming = self._key(row), None
        if self._is_remote:
            self._look_ahead(self._index(row))
            with self._lock:
                coming = self._coming.pop(int(row), None)
                self._begin()
        found = self._cache.get(key)
        if found is None:
            found = self._decode(self.record(row)) if coming is None else coming.result()
            self._cache.put(key, found)
        return found.sample(self._tasks)

    def expect(self, rows: Sequence[int]) -> None:
        """These rows will be asked for next, in about this order: begin to read them, as many at a time as is allowed.

        Takes the place of what was named before. Does nothing for images on disks: reading those is quick.
        """
        if self._is_remote:
            with self._lock:
                self._is_told = True
                self._wanted = deque(map(int, rows))
                self._begin()

    def _begin(self) -> None:
        """Begin with wanted rows while not too many are on their way. Only with the lock."""
        while self._wanted and len(self._coming) < AHEAD:
            row = self._wanted.popleft()
            if row not in self._coming and self._cache.get(self._key(row)) is None:
                self._coming[row] = _threads().submit(self._decode, self.record(row))

    def _look_ahead(self, index: int) -> None:
        """Want the next rows where two that follow each other were asked for."""
        with self._lock:
            in_order, self._last = index == self._last + 1, index
            if in_order and not self._is_told:
                self._wanted = deque(self._rows[index + 1 : index + 1 + AHEAD].tolist())

    def _decode(self, record: Record) -> Decoded:
        of = self._manifest
        return decode(record, of.base, of.size, of.lut, self._tasks, of.classes, self._sensors)

    def _key(self, row: int) -> object:
        return (str(self._manifest.path), self._manifest.labels, int(row), self._tasks, self._sensors)


@cache
def _threads() -> ThreadPoolExecutor:
    """Those of this process that wait for object storage; most of their time they do nothing else."""
    return ThreadPoolExecutor(AHEAD, thread_name_prefix="images")
