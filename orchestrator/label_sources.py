"""Where labels lie that are to be looked at: a manifest, a run, a file. Which images there are, and which are shown."""

import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.errors import ConfigError
from orchestrator.exporting import bought, faults, run_manifest
from orchestrator.pool import HUMAN, Pool
from orchestrator.store import RunFolder
from tasks.data.annotation_index import LISTS
from tasks.data.coco import Coco, object_of
from tasks.data.combined import CombinedFile, KeypointSlots
from tasks.data.files import Place, local_file, place, relative_uri, resolve
from tasks.data.json_lists import read_elements
from tasks.data.label_studio import LabelStudio
from tasks.data.manifest import NAME, SPLITS, Adapter, Manifest, Record, write_manifest
from tasks.seeding import key_of, uniforms

_AT_ONCE = 1 << 16  # rows whose labels are counted at a time


@dataclass(frozen=True)
class Bought:
    """Of a run: only the labels that an arm has bought."""

    arm: str
    seed: int = 0
    cycle: int | None = None  # in this purchase (0: the labels it began with); None = all by now


@dataclass(frozen=True)
class Census:
    """What is labeled: counts of each split, and which images hold which class of objects."""

    images: Mapping[str, int]  # split: how many
    labeled: Mapping[str, Mapping[str, int]]  # "objects", "pixels", "depth": images of each split
    objects: Mapping[str, Mapping[str, int]]  # class: objects of each split, crowds apart
    holders: Sequence[NDArray[np.int64]]  # rows that hold an object of a class; last, those that hold none


@dataclass(frozen=True)
class Source:
    """Images that can be looked at: rows of a manifest, and which of their labels are known."""

    name: str
    manifest: Manifest
    rows: NDArray[np.int64]  # ascending
    ledger: Pool | None = None  # of an arm; None = all labels that are there
    cycle: int | None = None

    def tasks_of(self, rows: NDArray[np.int64]) -> list[frozenset[str] | None]:
        """For each row the tasks whose labels were bought; None = all that are there."""
        if self.ledger is None:
            return [None] * len(rows)
        known = _known(self.ledger, self.cycle)[self.ledger.rows_of(self.manifest.keys()[rows])]
        return [frozenset(t for t, is_known in zip(self.ledger.tasks, one, strict=True) if is_known) for one in known]

    def of_ids(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The rows of these ids, in their order. ConfigError for one that is not here."""
        keys = self.manifest.keys()[self.rows]
        found = []
        for id in dict.fromkeys(ids):
            at = int(np.searchsorted(keys, np.uint64(key_of(id))))
            if at == len(keys) or keys[at] != np.uint64(key_of(id)):
                raise ConfigError(f"--ids {id}: {self.name} shows no such image; expected an id of it{self._near(id)}")
            found.append(int(self.rows[at]))
        return np.array(found, np.int64)

    def _near(self, id: str) -> str:
        some = self.manifest.ids(self.rows[:_AT_ONCE])
        close = difflib.get_close_matches(id, some, 1, 0.5) or some[:1]
        return f", such as {close[0]!r}: correct it" if close else ": it holds none"

    @cached_property
    def census(self) -> Census:
        """Read a part of the labels at a time; held are some bytes an object."""
        classes, manifest = self.manifest.classes, self.manifest
        splits = [name for name in SPLITS if np.isin(manifest.rows(name), self.rows).any()]
        images = {name: int(np.isin(self.rows, manifest.rows(name)).sum()) for name in splits}
        labeled = {what: dict.fromkeys(splits, 0) for what in ("objects", "pixels", "depth")}
        objects = {name: dict.fromkeys(splits, 0) for name in classes.detection}
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for split in splits:
            rows = self.rows[np.isin(self.rows, manifest.rows(split))]
            for start in range(0, len(rows), _AT_ONCE):
                chunk = rows[start : start + _AT_ONCE]
                has, owners, labels = self._labels(chunk)
                for what, known in has.items():
                    labeled[what][split] += int(known.sum())
                for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
                    objects[classes.detection[label]][split] += int(count)
                pairs = np.unique(np.stack([owners, labels]), axis=1)
                parts.append((pairs[0], pairs[1]))
        owners, labels = (np.concatenate([np.zeros(0, np.int64), *one]) for one in zip(*parts, strict=True))
        holders = [owners[labels == label] for label in range(len(classes.detection))]
        return Census(images, labeled, objects, [*holders, np.setdiff1d(self.rows, owners)])

    def _labels(
        self, rows: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.int64], NDArray[np.int64]]:
        """Which rows have a label of each kind; and of every object of a known class its row and its label."""
        columns = ["objects.list.element.label", "objects.list.element.crowd", "segmentation", "depth"]
        table = self.manifest.take(rows, columns)
        kinds = {"objects": "detection", "pixels": "segmentation", "depth": "depth"}
        has = {
            what: pc.is_valid(table[column].combine_chunks()).to_numpy(zero_copy_only=False)
            for what, column in zip(kinds, ("objects", "segmentation", "depth"), strict=True)
        }
        if self.ledger is not None:
            tasks = self.tasks_of(rows)
            has = {what: known & [kinds[what] in (one or ()) for one in tasks] for what, known in has.items()}
        lists = table["objects"].combine_chunks()
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
        found = lists.flatten()
        labels = found.field("label").to_numpy(zero_copy_only=False).astype(np.int64)
        counts = ~found.field("crowd").to_numpy(zero_copy_only=False).astype(np.bool_)
        counts &= (labels >= 0) & (labels < len(self.manifest.classes.detection))
        counts &= np.repeat(has["objects"], lengths)
        return has, np.repeat(rows, lengths)[counts], labels[counts]


def spread(source: Source, count: int, draw: int) -> NDArray[np.int64]:
    """``count`` rows (all, where there are fewer), ascending: by turns one of each class, rare classes first.

    Which ones, a hash of ``draw`` and the image decides. Images without objects are a class of their own.
    """
    if count >= len(source.rows):
        return source.rows
    dice = uniforms(source.manifest.keys(), draw, 0)
    lines = sorted((one[np.argsort(dice[one], kind="stable")] for one in source.census.holders if len(one)), key=len)
    waiting = [iter(one.tolist()) for one in lines]
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        for line in waiting:
            row = next((row for row in line if row not in chosen), None)
            if row is not None:
                chosen[row] = None
    return np.sort(np.array(list(chosen)[:count], np.int64))


# ---- opening --------------------------------------------------------------------------------------------------------


@contextmanager
def opened(
    source: str | Manifest, name: str, splits: Sequence[str] = (), arm: Bought | None = None, images: str = ""
) -> Iterator[Source]:
    """What is named, for the time of a block. ConfigError or RunError where it cannot be looked at.

    ``images``: of a COCO file, the folder that its file names are relative to; "" = the folder of the file.
    """
    with tempfile.TemporaryDirectory(prefix="mtal-show-") as scratch:
        with faults():
            found = _source(source, name, splits, arm, images, Path(scratch))
        yield found


def _source(
    source: str | Manifest, name: str, splits: Sequence[str], arm: Bought | None, images: str, scratch: Path
) -> Source:
    manifest, ledger = (source, None) if isinstance(source, Manifest) else _found(source, arm, images, scratch)
    if arm is not None and ledger is None:
        raise ConfigError(f"{name}: is no run folder; expected one, as --arm {arm.arm} asks for a run's labels")
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"--split {split}: no such split; expected one of {', '.join(SPLITS)}: choose one")
    rows = np.sort(np.concatenate([manifest.rows(split) for split in dict.fromkeys(splits or SPLITS)]))
    cycle = None if arm is None else arm.cycle
    if ledger is not None:
        rows = rows[np.isin(rows, manifest.rows_of(ledger.keys[_known(ledger, cycle).any(1)]))]
    if not len(rows):
        whose = f"of {', '.join(splits)} " if splits else ""
        whose += f"that the arm {arm.arm} has bought " if arm is not None else ""
        raise ConfigError(f"{name}: holds no image {whose}to show; expected at least one: choose others")
    return Source(name, manifest, rows, ledger, cycle)


def _known(ledger: Pool, cycle: int | None) -> NDArray[np.bool_]:
    """``[N, T]`` which labels people gave (in this cycle)."""
    known: NDArray[np.bool_] = ledger.source == HUMAN
    return known if cycle is None else known & (ledger.cycle == cycle)


def _found(source: str, arm: Bought | None, images: str, scratch: Path) -> tuple[Manifest, Pool | None]:
    path = place(source)
    is_json = path.suffix == ".json" and path.is_file()
    if images and not is_json:
        raise ConfigError(f"--images {images}: only a JSON file needs it; expected none with {source}: leave it out")
    if path.is_dir() and (path / "experiment.yaml").is_file():
        run = RunFolder(path)
        return run_manifest(run), bought(run, arm.arm, arm.seed) if arm is not None else None
    if path.suffix == ".parquet" or (path / NAME).is_file():
        return Manifest.open(path), None
    if is_json:
        return _of_json(path, images, scratch), None
    raise ConfigError(
        f"{source}: is neither a configuration, a manifest, a prepared folder, a run folder nor a .json file; expected "
        "one of them: correct the path, or type mtal prepare first"
    )


def _of_json(path: Place, images: str, scratch: Path) -> Manifest:
    """The manifest of a combined COCO file, or of an export of Label Studio, as it is: nothing is checked twice."""
    head = next(read_elements(local_file(path), LISTS), None)
    adapter: Adapter
    if head is not None and head.key:
        file = CombinedFile(path)
        adapter = Coco(str(path.parent), path.name, class_list=path.name if "classes" in file.head else "")
        records = _records(file, adapter.classes().detection, place(images) if images else path.parent, scratch)
    else:
        beside = images or ("images" if (path.parent / "images").is_dir() else "")
        adapter = LabelStudio(str(path.parent), path.name, images=beside, strict=False)
        records = adapter.records(scratch)
    write_manifest(scratch / NAME, records, adapter.classes(), adapter.semantic_lut(), None)
    return Manifest.open(scratch)


def _records(file: CombinedFile, names: Sequence[str], images: Place, scratch: Path) -> Iterator[Record]:
    """The images of a combined COCO file: their depth, too, and an id that people know."""
    labels = {one["id"]: names.index(one["name"]) for one in file.categories if one["name"] in names}
    slots = KeypointSlots(file.categories)
    for image, annotations in file:
        size = (image["height"], image["width"])
        has = {"detection": True, "segmentation": True, "depth": True} | dict(image.get("has") or {})

        paths = {
            task: relative_uri(resolve(image[key], images), scratch) if image.get(key) and has[task] else None
            for task, key in (("segmentation", "sem_file_name"), ("depth", "depth_file"))
        }
        split = str(image.get("split", "train"))
        yield Record(
            id=str(image.get("record", image["file_name"])),
            uri=relative_uri(resolve(image["file_name"], images), scratch),
            size=size,
            split=split if split in SPLITS else "train",
            objects=tuple(object_of({**a, "keypoints": slots.placed(a)}, labels, size) for a in annotations)
            if has["detection"]
            else None,
            segmentation=paths["segmentation"],
            depth=paths["depth"],
        )
