"""Records and the manifest: one parquet row an image.  @plugin-dev: an adapter yields Records.

The file is sorted by key, so that a shard (a range of keys) lies together in it however large it is, and so that the
order in which an adapter yields its records changes nothing. No torch in here: reports and pools read it too.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.classes import ClassMap
from tasks.data.columns import blocks, numbers, places
from tasks.data.files import Place, local_file, place, staged
from tasks.data.object_columns import OBJECT, objects_column
from tasks.data.relabeled import relabeled
from tasks.seeding import key_of

FORMAT = 1
NAME = "manifest.parquet"
SPLITS = ("train", "val", "test")
_GROUP = 4096  # rows of a row group
_SORTED_AT_ONCE = 1 << 16  # rows gathered in key order in memory
_METADATA = b"mtal"


@dataclass(frozen=True)
class ObjectRecord:
    """One labeled object, in pixels of the stored image (continuous edges)."""

    box: tuple[float, float, float, float]  # xyxy
    label: int  # index into ClassMap.detection
    crowd: bool = False
    rle: Mapping[str, object] | None = None  # COCO RLE {"size": [H, W], "counts": bytes}
    polygons: tuple[tuple[float, ...], ...] = ()  # parts, each x1, y1, x2, y2, ...
    keypoints: tuple[float, ...] = ()  # P x (x, y, v), flat


@dataclass(frozen=True)
class Record:
    """One image and the labels it has; None = that task is not labeled (an empty tuple = labeled, nothing there)."""

    id: str
    uri: str  # where the bytes are: a path or s3://; relative to the manifest's folder
    size: tuple[int, int]  # H, W of the stored image (as shown: after its EXIF orientation)
    split: str  # "train" (the pool), "val" or "test"
    group: str = ""  # scene: frames of one group must not straddle splits
    objects: tuple[ObjectRecord, ...] | None = None
    segmentation: str | None = None  # uri of an 8-bit PNG of class ids
    depth: str | None = None  # uri of a .npy float32 map in metres, NaN = no label; or of a PNG (see depth_png)
    fault: str = ""  # why its labels cannot be read, a sentence; such an image is not used, and never in a manifest


class Adapter(Protocol):
    """A data set. A frozen dataclass: its fields are the YAML keys of ``data``.

    One that knows the number of its images without reading them also has ``counts() -> {split: images}``.
    """

    @property
    def size(self) -> tuple[int, int] | None:
        """H, W to which images are resized on reading; None = as stored."""
        ...

    def classes(self) -> ClassMap: ...

    def semantic_lut(self) -> tuple[int, ...]:
        """256 entries: value of a semantic PNG -> class id; 255 = ignore, -1 = must not occur (an error)."""
        ...

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of every split. Files that the adapter must make (streets, panoptic) go under ``folder``."""
        ...


# ---- writing --------------------------------------------------------------------------------------------------------

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("objects", pa.list_(OBJECT)),
        pa.field("segmentation", pa.string()),
        pa.field("depth", pa.string()),
    ]
)


def write_manifest(
    path: Place,
    records: Iterable[Record],
    classes: ClassMap,
    lut: Sequence[int],
    size: tuple[int, int] | None = None,
) -> int:
    """Write a manifest, all or nothing, and answer how many records it holds. Numbers are kept as float32.

    The records are spooled to disk beside ``path`` and gathered in key order, so they need not fit in memory (but for
    some bytes an image). ValueError when two records have one id, or two ids one key.
    """
    if len(lut) != 256:
        raise ValueError(f"{path}: the semantic lut has {len(lut)} entries; expected 256, one for each value of a PNG")
    head = {"format": FORMAT, "classes": asdict(classes), "lut": list(lut), "size": size}
    schema = _SCHEMA.with_metadata({_METADATA: json.dumps(head).encode()})
    with staged(path) as draft:
        spool = draft.with_suffix(".spool")
        try:
            _spool(spool, records)
            with pa.memory_map(str(spool)) as file:
                return _sort(pa.ipc.open_file(file), draft, schema, path)
        finally:
            spool.unlink(missing_ok=True)


def _spool(path: Path, records: Iterable[Record]) -> None:
    """The records as they come, uncompressed, so that any of them can be read back at once."""
    stream = iter(records)
    with pa.ipc.new_file(str(path), _SCHEMA) as writer:
        while chunk := list(islice(stream, _GROUP)):
            writer.write_batch(_batch(chunk))


def _sort(spool: Any, draft: Path, schema: Any, path: Place) -> int:
    """Write the spooled records in key order; ValueError for ids or keys that come twice."""
    parts = [spool.get_batch(i).column("key").to_numpy() for i in range(spool.num_record_batches)]
    starts = np.cumsum([0, *map(len, parts)])
    keys = np.concatenate([np.zeros(0, np.uint64), *parts])
    order = np.argsort(keys, kind="stable")

    def gather(rows: NDArray[np.int64]) -> Any:
        return _gather(lambda i: pa.Table.from_batches([spool.get_batch(i)]), starts, rows, _SCHEMA)

    same = np.flatnonzero(np.diff(keys[order]) == 0)
    if same.size:
        first, second = gather(order[same[0] : same[0] + 2]).select(["id", "uri"]).to_pylist()
        if first["id"] == second["id"]:
            raise ValueError(
                f"{path}: the images {first['uri']} and {second['uri']} have the same id {first['id']!r}; "
                f"expected one id for each image: rename one of them"
            )
        raise ValueError(
            f"{path}: the ids {first['id']!r} and {second['id']!r} have the same 64-bit key; expected one key for each "
            f"id: rename one of them"
        )
    with pq.ParquetWriter(str(draft), schema, compression="zstd") as writer:
        for start in range(0, len(order), _SORTED_AT_ONCE):
            writer.write_table(gather(order[start : start + _SORTED_AT_ONCE]), row_group_size=_GROUP)
    return len(order)


def _gather(read: Callable[[int], Any], starts: NDArray[np.int64], rows: NDArray[np.int64], schema: Any) -> Any:
    """The table of some rows, in their order, out of numbered parts that start at ``starts``; each is read once."""
    part = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(part, kind="stable")
    indices, first = np.unique(part[order], return_index=True)
    tables = [schema.empty_table()]
    for index, chosen in zip(indices, np.split(rows[order], first[1:]), strict=False):
        tables.append(read(int(index)).take(pa.array(chosen - starts[index])))
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pa.concat_tables(tables).combine_chunks().take(pa.array(back))


def _batch(records: Sequence[Record]) -> Any:
    """Records as rows."""
    columns = [
        [one.id for one in records],
        [key_of(one.id) for one in records],
        [one.uri for one in records],
        [one.size[0] for one in records],
        [one.size[1] for one in records],
        [one.split for one in records],
        [one.group for one in records],
        objects_column([one.objects for one in records]),
        [one.segmentation for one in records],
        [one.depth for one in records],
    ]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(column, field.type) if isinstance(column, list) else column
            for column, field in zip(columns, _SCHEMA, strict=True)
        ],
        schema=_SCHEMA,
    )


# ---- reading --------------------------------------------------------------------------------------------------------


class Manifest:
    """A prepared data set. Rows are in key order, so any range of rows is a range of keys. Cheap to pickle.

    One in object storage is read from a copy that each machine makes of it.
    """

    def __init__(self, path: Place, labels: Sequence[Place] = ()) -> None:
        """``labels``: files of the same form whose rows count in place of the manifest's own (``relabeled``)."""
        self.labels = tuple(labels)
        self.path = path / NAME if path.is_dir() else path
        try:
            self._file = local_file(self.path)
            self._metadata = pq.read_metadata(str(self._file))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path}: no such manifest; run prepare on the data set first") from None
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path}: is no parquet file ({error}); run prepare again") from None
        head = json.loads((self._metadata.metadata or {}).get(_METADATA, b"{}"))
        if head.get("format") != FORMAT:
            found = head.get("format", "none")
            raise ValueError(f"{self.path}: has the format {found}; expected {FORMAT}: run prepare again")
        self.classes = _classes_of(head["classes"])
        self.lut: tuple[int, ...] = tuple(head["lut"])
        self.size: tuple[int, int] | None = tuple(head["size"]) if head["size"] else None
        groups = [self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups)]
        self._starts = np.cumsum([0, *groups])

    @staticmethod
    def open(path: Place | str) -> "Manifest":
        """The manifest of a prepared folder, or of a file. FileNotFoundError or ValueError say what to do."""
        return Manifest(place(path))

    def __reduce__(self) -> tuple[type["Manifest"], tuple[Place, Sequence[Place]]]:
        return Manifest, (self.path, self.labels)

    def __len__(self) -> int:
        return int(self._metadata.num_rows)

    @property
    def base(self) -> Place:
        """The folder that relative uris start at."""
        return self.path.parent

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the file, in hex."""
        digest = sha256()
        with self._file.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    @cached_property
    def _keys(self) -> NDArray[np.uint64]:
        return numbers(str(self._file), "key", len(self), np.uint64, self._metadata)

    @cached_property
    def _splits(self) -> NDArray[np.int8]:
        """The index of each row's split in SPLITS, or -1."""
        return places(str(self._file), "split", len(self), SPLITS, self._metadata)

    def _is_of(self, split: str) -> NDArray[np.bool_]:
        """Which rows are of a split; ValueError for an unknown one."""
        if split not in SPLITS:
            raise ValueError(f"{self.path}: has no split {split!r}; expected one of {', '.join(SPLITS)}")
        found: NDArray[np.bool_] = self._splits == SPLITS.index(split)
        return found

    def count(self, split: str) -> int:
        """How many rows a split has; ValueError for an unknown split."""
        return int(np.count_nonzero(self._is_of(split)))

    def rows(self, split: str | None = None) -> NDArray[np.int64]:
        """Row numbers of a split (None: of all), in key order. ValueError for an unknown split."""
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        return np.flatnonzero(self._is_of(split)).astype(np.int64, copy=False)

    def keys(self, split: str | None = None) -> NDArray[np.uint64]:
        """Keys of a split (None: of all), ascending; row for row those of ``rows(split)``.

        Those of all are held from then on; those of a split are read for the caller alone.
        """
        if split is None:
            return self._keys
        chosen = self._is_of(split)
        found, at = np.empty(np.count_nonzero(chosen), np.uint64), 0
        for start, part in blocks(str(self._file), "key", self._metadata):
            keys = part.to_numpy()[chosen[start : start + len(part)]]
            found[at : at + len(keys)] = keys
            at += len(keys)
        return found

    def has(self, column: str, split: str) -> NDArray[np.bool_]:
        """``[n]``: which rows of a split, in key order, are not null in a column (named as for ``take``)."""
        found = np.empty(len(self), bool)
        for start, part in blocks(str(self._file), column, self._metadata):
            found[start : start + len(part)] = part.is_valid().to_numpy(zero_copy_only=False)
        return found[self._is_of(split)]

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each key; ValueError for a key that is not in here."""
        rows = np.searchsorted(self._keys, keys).astype(np.int64)
        known = rows < len(self)
        known[known] = self._keys[rows[known]] == keys[known]
        if not known.all():
            raise ValueError(
                f"{self.path}: {int((~known).sum())} of {len(keys)} keys are not in this manifest, e.g. "
                f"{keys[~known][0]}; expected keys of these images: were they prepared anew?"
            )
        return rows

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of some rows, in their order."""
        ids: list[str] = self.take(rows, ["id"])["id"].to_pylist()
        return ids

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> Any:
        """The Arrow table of some rows, in their order; reads only their row groups, each once.

        Columns are those of the file; ``objects.list.element.label`` reads a part of the objects.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(f"{self.path}: rows {rows.min()}..{rows.max()} were asked; it has {len(self)}")
        columns = None if columns is None else list(columns)
        with pq.ParquetFile(str(self._file), metadata=self._metadata) as file:
            empty = file.read_row_groups([], columns=columns)
            table = _gather(lambda i: file.read_row_group(i, columns=columns), self._starts, rows, empty.schema)
        return relabeled(table, self._keys[rows], self.labels, columns) if self.labels else table

    def records(self, rows: NDArray[np.int64]) -> list[Record]:
        """The records of some rows, in their order."""
        return [record_of(row) for row in self.take(rows).to_pylist()]

    def record(self, row: int) -> Record:
        """One record (for many, ``records`` reads the file once)."""
        return self.records(np.array([row], np.int64))[0]

    def object_counts(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many objects some rows hold: of each detection class ``[C]``, and on each row ``[R]``; no crowds."""
        table = self.take(rows, ["objects.list.element.label", "objects.list.element.crowd"])
        lists = table["objects"].combine_chunks()
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
        objects = lists.flatten()
        labels = objects.field("label").to_numpy(zero_copy_only=False)
        real = ~objects.field("crowd").to_numpy(zero_copy_only=False).astype(np.bool_)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        per_class = np.bincount(labels[real], minlength=len(self.classes.detection))
        return per_class.astype(np.int64), np.bincount(owner[real], minlength=len(lengths)).astype(np.int64)


def record_of(row: Mapping[str, Any]) -> Record:
    """The record of one row of a manifest's table (``table.to_pylist()[i]``); columns that were not read are absent."""
    objects = row.get("objects")
    return Record(
        id=row["id"],
        uri=row["uri"],
        size=(row["height"], row["width"]),
        split=row.get("split", ""),
        group=row.get("group", ""),
        objects=None if objects is None else tuple(_object_of(one) for one in objects),
        segmentation=row.get("segmentation"),
        depth=row.get("depth"),
    )


def _object_of(row: Mapping[str, Any]) -> ObjectRecord:
    rle = row["rle"]
    return ObjectRecord(
        box=(row["x1"], row["y1"], row["x2"], row["y2"]),
        label=row["label"],
        crowd=row["crowd"],
        rle=None if rle is None else {"size": [rle["height"], rle["width"]], "counts": rle["counts"]},
        polygons=tuple(tuple(part) for part in row["polygons"] or ()),
        keypoints=tuple(row["keypoints"] or ()),
    )


def _classes_of(data: Mapping[str, Any]) -> ClassMap:
    plain = {name: tuple(value) for name, value in data.items()}
    pairs = {name: tuple((a, b) for a, b in data.get(name, ())) for name in ("flip_pairs", "skeleton")}
    return ClassMap(**{**plain, **pairs})
