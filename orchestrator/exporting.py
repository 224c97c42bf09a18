"""Labels as files: a manifest, a run's data or an export of Label Studio as a combined COCO file or as tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.errors import ConfigError, RunError
from orchestrator.pool import HUMAN, Pool
from orchestrator.store import LABELS, RunFolder, read_json, read_table
from tasks.data.annotation_index import LISTS
from tasks.data.combined import CombinedFile, writing_combined
from tasks.data.files import Place, place, relative_uri, resolve, write_bytes
from tasks.data.json_lists import read_elements
from tasks.data.label_config import config_of
from tasks.data.label_studio import LabelStudio, combined_entries
from tasks.data.label_tasks import task_of, write_tasks
from tasks.data.manifest import NAME, SPLITS, Manifest, ObjectRecord, Record
from tasks.geometry import polygon_area, rle_area

_AT_ONCE = 1024  # records of a manifest that are read at a time
Told = Callable[[str, str, int, int], None]  # unit, phase, images done, of how many (0 = not known)
Entry = tuple[dict[str, Any], list[dict[str, Any]]]  # an image, and its annotations


@dataclass(frozen=True)
class Labels:
    """What is labeled, an image at a time."""

    entries: Iterator[Entry]
    total: int  # images; 0 = not known
    head: dict[str, Any]  # the other keys of the file


@dataclass(frozen=True)
class Wanted:
    """Which labels of a manifest are written."""

    splits: Sequence[str] = ()  # () = all
    arm: str = ""  # of a run: only the labels that it has bought by now, under ``seed``
    seed: int = 0


def export_coco(source: str, out: str, wanted: Wanted, told: Told) -> dict[str, int]:
    """Write what is labeled as a combined COCO file; how many images and annotations. ConfigError or RunError else."""
    path = _target(out, source)
    with faults(), writing_combined(path) as writer:
        labels = labels_of(source, path.parent, wanted)
        for done, (image, annotations) in enumerate(labels.entries, start=1):
            writer.add(image, annotations)
            told(path.name, "export", done, labels.total)
        writer.head = labels.head
        return writer.counts


def export_tasks(
    source: str, out: str, wanted: Wanted, told: Told, prefix: str = "", is_finished: bool = False
) -> tuple[int, Place]:
    """Write what is labeled as tasks of Label Studio, and the labelling configuration beside them; how many, and where.

    ``prefix`` comes before each file's name: where the server finds it. ``is_finished``: the labels are annotations
    and no predictions, as in a project that was exported.
    """
    path = _target(out, source)
    with faults():
        labels = labels_of(source, path.parent, wanted)
        categories = labels.head["categories"]
        is_crowded = False

        def tasks() -> Iterator[dict[str, Any]]:
            nonlocal is_crowded
            for done, (image, annotations) in enumerate(labels.entries, start=1):
                is_crowded |= any(one.get("iscrowd") for one in annotations)
                yield task_of(image, annotations, categories, prefix, is_finished=is_finished)
                told(path.name, "export", done, labels.total)

        count = write_tasks(path, tasks())
        config = path.with_name(f"{path.stem}.xml")
        write_bytes(config.name, path.parent, config_of(categories, is_crowded).encode())
    return count, config


def labels_of(source: str, folder: Place, wanted: Wanted) -> Labels:
    """The labels of what was named; file names are relative to ``folder``, where they can be."""
    path = place(source)
    if path.is_dir() and (path / "experiment.yaml").is_file():
        run = RunFolder(path)
        manifest = run_manifest(run)
        ledger = bought(run, wanted.arm, wanted.seed) if wanted.arm else None
        if wanted.arm:
            manifest = Manifest(manifest.path, labels_by_people(run, wanted.arm, wanted.seed))
        return _of_manifest(manifest, folder, wanted, ledger)
    if wanted.arm:
        raise ConfigError(f"{source}: is no run folder; expected one, as --arm {wanted.arm} asks for a run's labels")
    if path.suffix == ".parquet" or (path / NAME).is_file():
        return _of_manifest(Manifest.open(path), folder, wanted, None)
    if path.suffix == ".json" and path.is_file():
        if wanted.splits:
            raise ConfigError(f"{source}: is no manifest; expected one, as --splits chooses among its splits: leave it")
        return _of_json(path, folder)
    raise ConfigError(
        f"{source}: is neither a manifest, a prepared folder, a run folder nor a .json file; expected one of them: "
        f"correct the path, or type mtal prepare first"
    )


def run_manifest(run: RunFolder) -> Manifest:
    """The manifest that a run was made from. RunError where it is not beside the run any more."""
    marker = run.reference
    if not marker.is_file():
        raise RunError(
            f"{run.root}: has no {marker.name} yet; expected a run that has begun: give its manifest instead"
        )
    wanted = read_json(marker)["inputs"]["data"]["manifest"]
    data = run.root.absolute().parent / "data"
    for path in sorted(map(str, data.glob(f"*/{NAME}"))):
        manifest = Manifest.open(path)
        if manifest.fingerprint == wanted:
            return manifest
    raise RunError(
        f"{run.root}: its data are not in {data} any more; expected the manifest it was made from: prepare it again"
    )


def bought(run: RunFolder, arm: str, seed: int) -> Pool:
    """The ledger of an arm under a seed, after all that it has bought by now. RunError where there is none."""
    own = run.own_pool(arm, seed)
    first = own if own.is_file() else run.pool(seed)
    if not (first.is_file() and run.trial(arm, seed).is_dir()):
        raise RunError(
            f"{run.root}: has no arm {arm!r} under seed {seed}; expected one that has begun: see its folders"
        )
    pool, index = Pool.of_table(read_table(first)), 0
    while (run.cycle(arm, seed, index) / "purchase.json").is_file():
        table = read_table(run.cycle(arm, seed, index) / "bought.parquet")
        index += 1
        pool = pool.buy(dict(zip(table["key"].to_pylist(), table["tasks"].to_pylist(), strict=True)), index)
    return pool


def labels_by_people(run: RunFolder, arm: str, seed: int) -> list[Place]:
    """The files of labels that people gave to what an arm has chosen, in their order."""
    found, index = list[Place](), 0
    while (folder := run.cycle(arm, seed, index)).joinpath("purchase.json").is_file():
        found += [path for path in (folder / LABELS,) if path.is_file()]
        index += 1
    return found


# ---- from a JSON file -----------------------------------------------------------------------------------------------


def _of_json(path: Any, folder: Place) -> Labels:
    """Those of a combined COCO file, or of an export of Label Studio (its images beside it, or in ``images``)."""
    first = next(read_elements(path, LISTS), None)
    if first is not None and first.key:
        file = CombinedFile(path)
        return Labels(iter(file), file.images, file.head)
    source = label_studio_of(path)
    return Labels(_of_tasks(source, folder), 0, {"categories": source.categories})


def label_studio_of(path: Any, images: str = "") -> LabelStudio:
    """An export of Label Studio; its images in a folder, else in ``images`` beside it or beside it.

    Its labelling configuration is the XML of the same name, where there is one.
    """
    beside = images or ("images" if (path.parent / "images").is_dir() else "")
    config = path.with_suffix(".xml")
    return LabelStudio(str(path.parent), path.name, config.name if config.is_file() else "", images=beside)


def _of_tasks(source: LabelStudio, folder: Place) -> Iterator[Entry]:
    for image, annotations, _ in combined_entries(source):
        root = Path(source.root).absolute()
        for key in ("file_name", "depth_file"):
            if key in image:
                image[key] = relative_uri(root / image[key], folder)
        yield image, annotations


# ---- from a manifest ------------------------------------------------------------------------------------------------


def _of_manifest(manifest: Manifest, folder: Place, wanted: Wanted, ledger: Pool | None) -> Labels:
    splits = wanted.splits or (("train",) if ledger is not None else SPLITS)
    rows = np.sort(np.concatenate([manifest.rows(split) for split in dict.fromkeys(splits)]))
    if ledger is not None:
        human = manifest.rows_of(ledger.keys[(ledger.source == HUMAN).any(1)])
        rows = rows[np.isin(rows, human) | ~np.isin(rows, manifest.rows("train"))]
    own = own_keypoints(manifest)
    return Labels(_entries(manifest, folder, rows, ledger, own), len(rows), head_of(manifest, own))


def head_of(manifest: Manifest, keypoints: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The categories of a manifest, numbered from 1; and what the values of its semantic maps mean."""
    classes = manifest.classes
    categories: list[dict[str, Any]] = []
    for label, name in enumerate(classes.detection):
        one: dict[str, Any] = {"id": label + 1, "name": name, "supercategory": name, "isthing": 1}
        if classes.det_to_seg[label] >= 0:
            one["seg_id"] = classes.det_to_seg[label]
        own = list(keypoints[label])
        if own:
            pairs = [[own.index(a), own.index(b)] for a, b in classes.flip_pairs if a in own and b in own]
            prefix = f"{name}."
            names = [classes.keypoints[i].removeprefix(prefix) for i in own]
            lines = [[own.index(a) + 1, own.index(b) + 1] for a, b in classes.skeleton if a in own and b in own]
            one |= {"keypoints": names, "skeleton": lines, "flip_pairs": pairs}
        categories.append(one)
    values = [
        {"id": value, "name": "ignore", "ignore": True}
        if to == 255
        else {"id": value, "name": classes.segmentation[to]}
        for value, to in enumerate(manifest.lut[:254])  # COCO's class lists end there
        if to >= 0
    ]
    return {"categories": categories, **({"classes": values} if classes.segmentation else {})}


def own_keypoints(manifest: Manifest) -> list[list[int]]:
    """For each class, which of the data set's keypoints it has.

    Those that begin with its name; where no keypoint begins with a class, all of them, for the classes of objects that
    have some (for every class, where no object has).
    """
    classes = manifest.classes
    prefixes = tuple(f"{name}." for name in classes.detection)
    if any(name.startswith(prefixes) for name in classes.keypoints):
        return [[i for i, n in enumerate(classes.keypoints) if n.startswith(prefix)] for prefix in prefixes]
    with_points = _labels_with_keypoints(manifest) if classes.keypoints else set()
    everything = list(range(len(classes.keypoints)))
    return [everything if label in with_points or not with_points else [] for label in range(len(prefixes))]


def _labels_with_keypoints(manifest: Manifest) -> set[int]:
    found: set[int] = set()
    rows = manifest.rows()
    for start in range(0, len(rows), 64 * _AT_ONCE):
        columns = [f"objects.list.element.{name}" for name in ("label", "keypoints")]
        objects = pc.list_flatten(manifest.take(rows[start : start + 64 * _AT_ONCE], columns)["objects"])
        known = pc.fill_null(pc.greater(pc.list_value_length(pc.struct_field(objects, "keypoints")), 0), False)
        found |= set(pc.unique(pc.filter(pc.struct_field(objects, "label"), known)).to_pylist())
    return found


def _entries(
    manifest: Manifest, folder: Place, rows: NDArray[np.int64], ledger: Pool | None, own: Sequence[Sequence[int]]
) -> Iterator[Entry]:
    source = "converted" if ledger is None else "human"
    image_id = annotation_id = 0
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        for bought_tasks, record in zip(_bought_tasks(manifest, part, ledger), manifest.records(part), strict=True):
            image_id += 1
            has = _has(record, bought_tasks)
            annotations = []
            for one in (record.objects or ()) if has["detection"] else ():
                annotation_id += 1
                found = _annotation(one, own[one.label] if has["keypoints"] else (), record.size)
                annotations.append({"id": annotation_id, "image_id": image_id, **found, "source": source})
            yield _image(record, image_id, manifest.base, folder, has), annotations


def _bought_tasks(manifest: Manifest, rows: NDArray[np.int64], ledger: Pool | None) -> Iterator[frozenset[str] | None]:
    """For each row the tasks that have a human label; None where all that is there counts: outside of the pool."""
    if ledger is None:
        yield from [None] * len(rows)
        return
    keys = manifest.keys()[rows]
    places = np.searchsorted(ledger.keys, keys).clip(0, len(ledger.keys) - 1)
    for place_in_pool, is_in_pool in zip(places.tolist(), ledger.keys[places] == keys, strict=True):
        human = ledger.source[place_in_pool] == HUMAN
        yield frozenset(t for t, known in zip(ledger.tasks, human, strict=True) if known) if is_in_pool else None


def _has(record: Record, only: frozenset[str] | None) -> dict[str, bool]:
    """Which labels of an image are written: those that are there, of these tasks."""
    has = {
        "detection": record.objects is not None,
        "segmentation": record.segmentation is not None,
        "depth": record.depth is not None,
        "keypoints": any(one.keypoints for one in record.objects or ()),
    }
    return {task: known and (only is None or task in only) for task, known in has.items()}


def _image(record: Record, number: int, base: Place, folder: Place, has: Mapping[str, bool]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": number,
        "file_name": relative_uri(resolve(record.uri, base), folder),
        "height": record.size[0],
        "width": record.size[1],
        "split": record.split,
        "record": record.id,
        "has": dict(has),
    }
    if record.group:
        found["group"] = record.group
    for key, uri, task in (
        ("sem_file_name", record.segmentation, "segmentation"),
        ("depth_file", record.depth, "depth"),
    ):
        if uri is not None and has[task]:
            found[key] = relative_uri(resolve(uri, base), folder)
    return found


def _annotation(one: ObjectRecord, own: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    """The annotation of an object of an image of H, W, without its ids."""
    x1, y1, x2, y2 = map(_decimal, one.box)
    width, height = round(x2 - x1, 9), round(y2 - y1, 9)
    segmentation: Any = [[_decimal(value) for value in part] for part in one.polygons]
    if one.rle is not None:
        counts: Any = one.rle["counts"]
        segmentation, area = {"size": list(size), "counts": counts.decode()}, float(rle_area(one.rle))
    elif one.polygons:
        area = sum(polygon_area(np.reshape(np.array(part, np.float64), (-1, 2))) for part in one.polygons)
    else:
        area = width * height
    found = {
        "category_id": one.label + 1,
        "segmentation": segmentation,
        "bbox": [x1, y1, width, height],
        "area": area,
        "iscrowd": int(one.crowd),
    }
    if one.keypoints and own:
        triples = [one.keypoints[3 * i : 3 * i + 3] for i in own]
        flat = [value for x, y, v in triples for value in (_decimal(x), _decimal(y), int(v))]
        found |= {"keypoints": flat, "num_keypoints": sum(v > 0 for v in flat[2::3])}
    return found


def _decimal(value: float) -> float:
    """The shortest number that is the same as float32, which is how manifests keep it."""
    return float(str(np.float32(value)))


# ---- where to -------------------------------------------------------------------------------------------------------


def _target(out: str, source: str) -> Place:
    with faults():
        path = place(out)
        if path.is_dir():
            raise ConfigError(f"--out {out}: is a folder; expected the name of a JSON file: add one")
        if path.absolute() == place(source).absolute():
            raise ConfigError(f"--out {out}: is what is read; expected another file: choose another name")
        return path.absolute()


@contextmanager
def faults() -> Iterator[None]:
    """What the data rooms find wrong, as an error that people can mend."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ConfigError(str(error)) from error
