"""Score one pool with several strategies in one pass: a model and a pool in, the list out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from rich.markup import escape
from rich.table import Table

from orchestrator.checkpoints import Card, load_model
from orchestrator.components import Component, make
from orchestrator.errors import ConfigError, RunError
from orchestrator.identity import HOME, code_fingerprint
from orchestrator.scoring import Plan, check_plan
from orchestrator.store import fingerprint, read_table, write_table
from orchestrator.workers import Bought, Scored, ScoreJob, SelectJob, Setup, Workers, ranges
from tasks.data.concurrent import in_order
from tasks.data.files import Place, relative_uri, remove_tree, version
from tasks.data.manifest import NAME, SPLITS, Manifest, Record, write_manifest
from tasks.data.objects import S3Path
from tasks.data.s3 import AT_FAULT

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Maker(Protocol):
    """Makes workers for the time of a block."""

    def __call__(self, setup: Setup) -> AbstractContextManager[Workers]: ...


@dataclass(frozen=True)
class PoolScores:
    """The written scores and what they took."""

    table: pa.Table  # id, key, and for each strategy <name>.rank (1 = label first), <name>.value and its parts
    names: tuple[str, ...]
    scored: Scored


def score_pool(
    checkpoint: Place,
    data: Place,
    strategies: Sequence[str],
    out: Place,
    make_workers: Maker,
    *,
    top: int = 10,
    split: str = "train",
    batch: int = 16,
    shard: int = 512,
    threads: int = 1,
    seed: int = 0,
    gpu: bool = False,
) -> PoolScores:
    """Write one row an image to ``out``, and which ``top`` images each strategy would label, in its order.

    That order is ``select``'s, which may be another one than that of the values. Finished shards wait beside the file:
    a command that was killed is carried on by typing it again.
    """
    components = named(strategies)
    model, card = load_model(checkpoint)
    check_strategies(components, model, seed)
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; expected the name of a parquet file: add one")
    work = out.with_name(f"{out.name}.parts")
    _check_split(data, split)
    manifest = pool_manifest(data, card, work)
    check_manifest(manifest, card, getattr(model, "stride", None))
    rows = _rows(manifest, split, data)
    setup = Setup(
        manifest=str(manifest.base), tasks={task: {} for task in card.tasks}, model=card.model,
        weighting=Component("equal"), batch=batch, shard=shard, threads=threads, cache=0, gpu=gpu,
        code=code_fingerprint(), home=str(HOME),
    )  # fmt: skip
    weights = [str(checkpoint.absolute()), version(checkpoint)]
    stamp = [*weights, manifest.fingerprint, split, seed, batch, shard, setup.code]
    options = {name: [c.name, dict(c.options)] for name, c in components.items()}
    job = ScoreJob(
        folder=str(work / "scores"), checkpoint=str(checkpoint), strategies=components, seed=seed, cycle=0,
        labeled=np.zeros(len(rows), bool), split=split, inputs=fingerprint([*stamp, options]),
    )  # fmt: skip
    none = np.zeros(len(card.classes.detection), np.int64)
    with make_workers(setup) as workers:
        scored = workers.score(job)
        picks = {
            name: workers.select(
                SelectJob(job.folder, name, one, min(top, len(rows)), seed, job.cycle, job.labeled, none)
            )
            for name, one in components.items()
        }
    parts = [work / "scores" / f"shard_{i:05d}.parquet" for i in range(len(ranges(len(rows), shard)))]
    table = _ranked(pa.concat_tables([read_table(path).replace_schema_metadata(None) for path in parts]), picks)
    write_table(out, table)
    remove_tree(work)
    return PoolScores(table, tuple(components), scored)


def _ranked(scores: pa.Table, picks: Mapping[str, Sequence[Bought]]) -> pa.Table:
    """The scores with the place of each pick; without what only ``select`` needs."""
    table = scores.drop_columns(["labeled", *(n for n in scores.column_names if n.endswith(".summary"))])
    for place, (name, chosen) in enumerate(picks.items()):
        ids = pa.array([pick.id for pick in chosen], pa.string())
        table = table.add_column(2 + place, f"{name}.rank", pc.add(pc.index_in(table["id"], value_set=ids), 1))
    return table


def named(strategies: Sequence[str], option: str = "--strategy ") -> dict[str, Component]:
    """Strategies by the name of their columns, from names or YAML mappings; a repeated name gets a number."""
    found: dict[str, Component] = {}
    for text in strategies:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{option}{text}: is not YAML; expected a name or '{{name: boxmask, tau: 0.4}}': quote it so"
            ) from error
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ConfigError(
                f"{option}{text or repr(text)}: has no name; expected a name or '{{name: boxmask, tau: 0.4}}': add it"
            )
        component = Component(value["name"], {k: v for k, v in value.items() if k != "name"})
        label = component.name.split(":")[-1]
        alike = sum(name == label or name.startswith(f"{label}-") for name in found)
        found[f"{label}-{alike + 1}" if alike else label] = component
    return found


def check_strategies(components: Mapping[str, Component], model: Any, seed: int) -> None:
    """Refuse before the pool is read what could not be carried out: unknown names, options, and absent heads."""
    made = {name: make("strategy", one, f"--strategy {one.name}") for name, one in components.items()}
    try:
        check_plan(model, Plan(made, seed, 0))
    except ValueError as error:
        raise ConfigError(f"--strategy: {error}") from error


def check_manifest(manifest: Manifest, card: Card, stride: int | None) -> None:
    """ConfigError where a prepared pool does not fit the checkpoint."""
    if manifest.classes != card.classes:
        raise ConfigError(
            f"{manifest.base}: was prepared with other classes than the checkpoint was trained on; expected the same "
            "class list: prepare this data set as the checkpoint's was, or give the folder of its images"
        )
    size = manifest.size
    if size and stride and (size[0] % stride or size[1] % stride):
        raise ConfigError(
            f"{manifest.base}: was prepared at {size[0]} x {size[1]} px; expected multiples of {stride}, the stride of "
            "the checkpoint's network: prepare it again with such a data.size"
        )


def _check_split(data: Place, split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"--split {split}: no such split; expected one of {', '.join(SPLITS)}: choose one")
    if split != "train" and data.is_dir() and not (data / NAME).is_file():
        raise ConfigError(
            f"--split {split}: {data} has no splits; expected a folder that 'mtal prepare' wrote: leave it out"
        )


def _rows(manifest: Manifest, split: str, data: Place) -> NDArray[np.int64]:
    rows = manifest.rows(split)
    if not len(rows):
        raise ConfigError(f"--split {split}: {data} has no image of it; expected at least one: choose another split")
    return rows


def pool_manifest(data: Place, card: Card, work: Place) -> Manifest:
    """The manifest of a prepared folder, or one made from a folder of images."""
    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder; expected a folder of images, or one that 'mtal prepare' wrote")
    if (data / NAME).is_file():
        try:
            return Manifest.open(data)
        except ValueError as error:
            raise RunError(str(error)) from error
    paths = sorted(_images(data))
    if not paths:
        raise ConfigError(
            f"{data}: holds no image ({', '.join(IMAGES)}) and no manifest.parquet; give the folder of the pool"
        )
    if card.size is None:
        raise ConfigError(
            f"{data}: the checkpoint was trained without data.size; prepare the pool first with 'mtal prepare'"
        )
    records = (
        Record(id=relative_uri(path, data), uri=str(path.absolute()), size=size, split="train")
        for path, size in in_order(paths, _size, 16 if isinstance(data, S3Path) else 1)
    )
    is_new = not work.exists()
    try:
        write_manifest(work / NAME, records, card.classes, [255] * 256, card.size)
    except (RunError, OSError) as error:
        if is_new and isinstance(work, Path) and work.is_dir():
            work.rmdir()
        if isinstance(error, OSError):
            error.filename = error.filename or str(work)
        raise
    return Manifest.open(work)


def _images(data: Place) -> Iterator[Place]:
    """The images below a folder: objects are listed a page at a time, each once."""
    below: Iterator[Place] = data.walk() if isinstance(data, S3Path) else data.rglob("*")
    return (path for path in below if PurePosixPath(path.name).suffix.lower() in IMAGES)


def _size(path: Place) -> tuple[int, int]:
    """H, W of an image as it is shown; reads only its head."""
    try:
        opened: Any = path.open("rb")
        with opened as file, Image.open(file) as image:
            turned = image.getexif().get(Base.Orientation, 1) >= 5  # a photo that is shown lying on its side
            return (image.width, image.height) if turned else (image.height, image.width)
    except AT_FAULT:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{path}: is not a readable image; expected a whole one: repair or remove it") from error


def top_table(scores: PoolScores, top: int) -> Table:
    """What each strategy would label first, side by side."""
    count = scores.table.num_rows
    title = f"the first {min(top, count)} of {count} images to label"
    shown = Table(title=title, title_justify="left", min_width=len(title))
    shown.add_column("rank", justify="right")
    columns: list[list[str]] = []
    for name in scores.names:
        shown.add_column(escape(name))
        picked = scores.table.filter(pc.is_valid(scores.table[f"{name}.rank"])).sort_by(f"{name}.rank").slice(0, top)
        cells = zip(picked["id"].to_pylist(), picked[f"{name}.value"].to_pylist(), strict=True)
        columns.append([f"{escape(id)}  [dim]{value:.4f}[/dim]" for id, value in cells])
    for rank, row in enumerate(zip_longest(*columns, fillvalue="")):
        shown.add_row(str(rank + 1), *row)
    return shown
