"""mtal augment: copies of labeled images, changed at random with all their labels, beside the originals.

Work is cut into units: an original with some of its copies. A unit writes its images and, last, a JSON file with their
entries. The combined file is put together at the end; where it is, all is there. A copy is a pure function of (seed,
file name, number of the copy), so workers, order and kills change nothing.
"""

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import yaml

from orchestrator.components import validate
from orchestrator.config import put
from orchestrator.errors import ConfigError, RunError
from orchestrator.identity import code_fingerprint
from orchestrator.store import RunFolder, canonical, differences, read_json, write_text
from tasks.data.augmented_images import Original, check_names, make_copy, read_scene, take_over
from tasks.data.combined import CombinedFile, writing_combined
from tasks.data.files import Place, check_key, local_file, read_bytes, remove_tree, write_bytes
from tasks.data.splits import drawn_split
from tasks.recipe import Recipe

NAME = "annotations.json"
CLASSES = "classes.json"  # the classes of semantic maps, where the source has such a file
RECORD = "augment.json"  # what a folder was made from
PARTS = ".augment"  # the entries of finished units, as long as the combined file is not there
BLOCK = 16  # copies of a unit: what a kill loses, at most, for each worker

Told = Callable[[str, str, int, int], None]
Entry = tuple[dict[str, Any], list[dict[str, Any]]]  # an image and its annotations


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    recipe: Recipe
    copies: int = 1  # of each image
    seed: int = 0
    splits: tuple[str, ...] = ("train",)  # whose images are copied; those of others are taken over as they are
    group: str = "group"  # the field of an image that names its scene
    validation: float = 0.0  # share of the scenes of train that become val, before anything is copied
    test: float = 0.0
    images: str = ""  # the folder below the root that file names are relative to
    semantic: str = ""  # the folder of semantic maps named as the images

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"--copies {self.copies}: expected 1 or more for each image")
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise ConfigError(
                f"--validation {self.validation} --test {self.test}: expected shares of the images: 0 or more, and "
                "together below 1"
            )


@dataclass
class Counts:
    """What is in the folder."""

    originals: int = 0
    copies: int = 0
    objects: int = 0  # in the copies
    removed: Counter[str] = field(default_factory=Counter)  # objects that copies lack, by reason

    def add(self, image: Mapping[str, Any], annotations: Sequence[Any]) -> None:
        """Count a copy."""
        self.copies += 1
        self.objects += len(annotations)
        self.removed.update(one["reason"] for one in image["augmentation"]["removed"])

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.removed.items())) or "none"
        return (
            f"{self.originals} originals, {self.copies} copies with {self.objects} objects; objects that copies lost: "
            f"{lost}"
        )


@dataclass(frozen=True)
class Unit:
    """An original and some of its copies."""

    original: Original
    copies: range
    folder: Place
    part: Place  # its entries, when they are made
    recipe: Recipe
    seed: int

    @property
    def images(self) -> int:
        """How many it makes, the original with its first block."""
        return len(self.copies) + (self.copies.start == 0)


def recipe_of(config: Path | None, sets: Sequence[str]) -> Recipe:
    """The recipe of a YAML file and of ``--set`` texts; ConfigError says what cannot be used."""
    where, tree = "--set", dict[str, Any]()
    try:
        if config is not None:
            where, tree = config.name, yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{where}: found {type(tree).__name__}; expected keys such as flip: 0.5 and rotate: 15")
        for text in sets:
            key, sign, value = text.partition("=")
            if not sign or not key:
                raise ConfigError(f"--set {text}: found no '='; expected key=value such as rotate=15")
            put(tree, key, yaml.safe_load(value), f"--set {text}")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{config or '--set'}: is no YAML that can be read ({said}); correct it") from None
    recipe: Recipe = validate(Recipe, tree, f"{where}: ")
    return recipe


def augment(
    source: Place, folder: Place, order: Order, told: Told, workers: int = 1, root: Place | None = None
) -> Counts | None:
    """Make ``folder`` with annotations.json, the originals and their copies; None where all was there already.

    ``root`` is what the paths of files are relative to; None = the folder of the source. RunError where the source
    cannot be used, or where the folder holds something else.
    """
    source = source / NAME if source.is_dir() else source
    made_from = _made_from(source, order)
    _refuse_other(folder, made_from)
    state = RunFolder(folder / PARTS)
    counts = None
    if not (folder / NAME).is_file():
        with state.locked():
            write_text(folder / RECORD, json.dumps(made_from, indent=1) + "\n")
            try:
                counts = _make(source, root or source.parent, folder, order, told, workers)
            except (ValueError, FileNotFoundError, IsADirectoryError) as error:
                raise RunError(str(error)) from None
    remove_tree(state.root)
    return counts


def _make(source: Place, root: Place, folder: Place, order: Order, told: Told, workers: int) -> Counts:
    file = CombinedFile(source)
    entries = list(file)
    originals = _originals(file, root, order, entries)
    units = [unit for one in originals for unit in _units(one, folder, order)]
    done, total = 0, sum(unit.images for unit in units)
    for unit in _carried_out(units, workers):
        done += unit.images
        told(folder.name, "augment", done, total)
    counts, ids = Counts(), _new_ids(one["id"] for _, annotations in entries for one in annotations)
    _sweep(folder)
    if (root / CLASSES).is_file():
        write_bytes(CLASSES, folder, read_bytes(CLASSES, root))
    with writing_combined(folder / NAME) as written:
        written.head = file.head
        for unit in units:
            if unit.copies.start == 0:
                counts.originals += 1
                written.add(unit.original.image, unit.original.annotations)
            for image, annotations in read_json(unit.part):
                counts.add(image, annotations)
                written.add(image, [{**one, "id": next(ids, f"{one['id']}_{image['id']}")} for one in annotations])
    return counts


def _sweep(folder: Place) -> None:
    """Delete the drafts of processes that were killed in the middle of a write."""
    for draft in folder.rglob(".*.tmp") if isinstance(folder, Path) else ():
        draft.unlink(missing_ok=True)


def _new_ids(old: Iterable[int | str]) -> Iterator[int]:
    """Numbers above all that are taken; none where ids are not numbers."""
    taken = list(old)
    numbers = [one for one in taken if isinstance(one, int)]
    return count(max(numbers, default=0) + 1) if len(numbers) == len(taken) else iter(())


# ---- what is made, and from what ------------------------------------------------------------------------------------


def _made_from(source: Place, order: Order) -> dict[str, Any]:
    """All that decides what the folder will hold."""
    if not source.is_file():
        raise RunError(f"{source}: no such file; expected the combined COCO file of a data set, or its folder: give it")
    digest = hashlib.sha256()
    with local_file(source).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    made: dict[str, Any] = json.loads(canonical(asdict(order)))
    return {"source": digest.hexdigest()[:16], "code": code_fingerprint(("tasks",)), **made}


def _refuse_other(folder: Place, made_from: Mapping[str, Any]) -> None:
    """RunError where the folder was made from something else, or by somebody else: nothing is ever overwritten."""
    record = folder / RECORD
    if record.is_file():
        lines = differences(read_json(record), made_from)
        if lines:
            raise RunError(
                f"{folder}: was made from something else ({'; '.join(lines[:5])}); expected the same: choose another "
                "folder, or delete this one"
            )
    elif folder.is_dir() and any(one.name != PARTS for one in folder.iterdir()):
        raise RunError(f"{folder}: holds files that mtal augment has not made; expected a new folder: choose another")


def _originals(file: CombinedFile, root: Place, order: Order, entries: Sequence[Entry]) -> list[Original]:
    """Every image with its split and its scene. ValueError where a copy would have the name or the id of an image."""
    first, names = next(_new_ids(image["id"] for image, _ in entries), None), {one["file_name"] for one, _ in entries}
    categories = {one["id"]: one for one in file.categories}
    found = []
    for number, (image, annotations) in enumerate(entries):
        for one_of_it in annotations:
            check_key(one_of_it, "id", (int, str), f"{file.path}: an annotation of {image['file_name']}")
        scene = str(image.get(order.group) or image["file_name"])
        split = drawn_split(image.get("split", "train"), scene, order.validation, order.test)
        changed = {**image, "split": split, order.group: scene}
        start = None if first is None else first + number * order.copies
        one = Original(
            root, str(file.path), changed, tuple(annotations), categories, start, order.images, order.semantic
        )
        check_names(one)
        taken = [one.name_of(copy) for copy in range(order.copies) if one.name_of(copy) in names]
        if taken:
            raise ValueError(
                f"{file.path}: lists {taken[0]}, which is the name of a copy of {image['file_name']}; expected "
                "originals alone: give the file from before it was augmented"
            )
        found.append(one)
    if len({one.image["file_name"] for one in found}) < len(found):
        raise ValueError(f"{file.path}: lists one file_name twice; expected one image for each file: correct the list")
    return found


def _units(original: Original, folder: Place, order: Order) -> Iterator[Unit]:
    """An image with its copies in blocks; one that is not copied is a unit without."""
    count = order.copies if original.image["split"] in order.splits else 0
    for start in range(0, max(1, count), BLOCK):
        mark = hashlib.sha256(original.image["file_name"].encode()).hexdigest()[:16]
        part = folder / PARTS / f"{mark}-{start:05d}.json"
        yield Unit(original, range(start, min(count, start + BLOCK)), folder, part, order.recipe, order.seed)


# ---- carrying it out ------------------------------------------------------------------------------------------------


def carry_out(unit: Unit) -> None:
    """Make the files of a unit, and its entries last; nothing where it is done."""
    if unit.part.is_file():
        return
    if unit.copies.start == 0:
        take_over(unit.original, unit.folder)
    made: list[Entry] = []
    if unit.copies:
        scene = read_scene(unit.original)
        made = [make_copy(unit.original, scene, unit.folder, unit.recipe, unit.seed, number) for number in unit.copies]
    write_text(unit.part, json.dumps(made, allow_nan=False))


def _carried_out(units: Sequence[Unit], workers: int) -> Iterator[Unit]:
    """The units as they are done: in this process, or on some of them."""
    if workers == 1:
        for unit in units:
            carry_out(unit)
            yield unit
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,))
    waiting: dict[Future[None], Unit] = {}
    upcoming = iter(units)
    try:
        while True:
            waiting |= {pool.submit(carry_out, unit): unit for unit in islice(upcoming, 4 * workers - len(waiting))}
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                future.result()
                yield waiting.pop(future)
    except BrokenProcessPool:
        raise RunError(
            f"augment: one of {workers} worker processes died, perhaps for lack of memory; expected all to live: type "
            "the same command again with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
