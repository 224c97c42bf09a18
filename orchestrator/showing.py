"""mtal show: pictures with their labels, as one page that needs nothing else, or as a folder of PNGs.

An image is drawn, written and forgotten, so memory does not grow with their number.
"""

import base64
import csv
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from orchestrator import __version__
from orchestrator.checkpoints import load_model
from orchestrator.drawing import SIDES, Pixels, Rgb, Tile, colors_of, draw_sentence, encoded, sheet_of
from orchestrator.errors import ConfigError
from orchestrator.label_sources import Source, spread
from orchestrator.labeled_pictures import OF_OBJECTS, TASKS, Artist, Drawn, Fault
from orchestrator.pages import template
from orchestrator.pool_scoring import check_manifest
from orchestrator.store import replacing, write_text
from tasks.data.concurrent import in_order
from tasks.data.files import Place, write_bytes
from tasks.data.manifest import SPLITS, Manifest, Record
from tasks.data.objects import S3Path
from tasks.data.samples import read_sample
from tasks.types import Detections, Prediction

WIDTHS = (640, 480, 320, 240, 160, 96)  # of a picture, in pixels: the largest that keeps the page small
PAGE_BYTES = 64 << 20  # about how large a page may become, before pictures are drawn smaller
BYTES_A_PIXEL = 0.35  # of a JPEG with labels on it, in base64
MOST_ON_PAGE = 20_000  # images; a browser shows no more
INDEX = "index.csv"
_AT_ONCE = 8  # records that are read, and images that a network sees, at a time
Told = Callable[[str, str, int, int], None]  # unit, phase, images done, of how many


@dataclass(frozen=True)
class Wish:
    """What is to be shown."""

    count: int = 24
    ids: Sequence[str] = ()  # these images, and no sample
    draw: int = 0  # another number, another sample
    tasks: Collection[str] = ()  # () = all that are labeled
    checkpoint: Place | None = None  # its predictions stand beside the labels


@dataclass
class Shown:
    """What was drawn."""

    images: int = 0
    faulty: int = 0  # images with a picture that could not be drawn
    size: int = 0  # bytes
    width: int = 0  # of a picture, in pixels
    beside: int = 1  # pictures that an image has, at most
    smaller: str = ""  # why pictures are smaller than they could be
    pixels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # split: how many of each class

    def add(self, drawn: Drawn) -> None:
        """Count one image."""
        self.images += 1
        self.faulty += any(isinstance(tile, Fault) for tile in drawn.tiles)
        if drawn.pixels is not None:
            self.pixels[drawn.record.split] = self.pixels.get(drawn.record.split, 0) + drawn.pixels


def show(source: Source, wish: Wish, out: Place, told: Told) -> Shown:
    """Write the page (where ``out`` ends in .html) or the folder; what was drawn. ConfigError for what cannot be."""
    is_page = out.suffix.lower() in (".html", ".htm")
    _check(wish, out, is_page)
    rows = source.of_ids(wish.ids) if wish.ids else spread(source, wish.count, wish.draw)
    if is_page and len(rows) > MOST_ON_PAGE:
        raise ConfigError(
            f"--out {out}: {len(rows):,} images are asked for; expected at most {MOST_ON_PAGE:,} on one page: ask for "
            "fewer with --count, or name a folder, which has no such bound"
        )
    tasks = set(wish.tasks) or set(TASKS)
    done = Shown()
    done.beside = _beside(source.manifest, rows, tasks) + 2 * (wish.checkpoint is not None)
    done.width, done.smaller = _width(len(rows), done.beside) if is_page else (WIDTHS[0], "")
    artist = Artist(source.manifest.base, source.manifest.classes, source.manifest.lut, tasks, done.width)
    see = None if wish.checkpoint is None else _Network(wish.checkpoint, source.manifest)
    pictures = _counted(_drawn(source, rows, artist, see), done, len(rows), partial(told, source.name, "show"))
    if is_page:
        _write_page(source, pictures, done, wish, out, len(rows))
    else:
        _write_folder(pictures, done, out)
    return done


def _check(wish: Wish, out: Place, is_page: bool) -> None:
    for task in wish.tasks:
        if task not in TASKS:
            raise ConfigError(f"--task {task}: no such task; expected one of {', '.join(TASKS)}: choose one")
    if not is_page and out.suffix.lower() in (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".json", ".csv"):
        raise ConfigError(f"--out {out}: is neither a page nor a folder; expected FILE.html or the name of a folder")
    if is_page and out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; expected the name of a page: add one")
    if not is_page and (out.is_file() or (out.is_dir() and any(True for _ in out.iterdir()))):
        raise ConfigError(f"--out {out}: is there already, and not empty; expected a new folder: choose another name")


def _beside(manifest: Manifest, rows: NDArray[np.int64], tasks: Collection[str]) -> int:
    """How many pictures an image has, at most: of its objects, its semantic map and its depth."""
    maps = [task for task in ("segmentation", "depth") if task in tasks]
    table = manifest.take(rows, maps)
    with_maps = [name for name in maps if table[name].null_count < len(rows)]
    return max(1, any(task in tasks for task in OF_OBJECTS) + len(with_maps))


def _width(images: int, tiles: int) -> tuple[int, str]:
    """How wide a picture is, and why not wider."""
    each = [images * tiles * 0.75 * width * width * BYTES_A_PIXEL for width in WIDTHS]
    width = next((w for w, size in zip(WIDTHS, each, strict=True) if size <= PAGE_BYTES), WIDTHS[-1])
    if width == WIDTHS[0]:
        return width, ""
    return width, (
        f"{images:,} images are many for one page: they are drawn {width} px wide, about "
        f"{each[WIDTHS.index(width)] / 2**20:.0f} MiB in all; fewer (--count), or a folder (--out FOLDER), are larger"
    )


# ---- drawing --------------------------------------------------------------------------------------------------------


def _drawn(source: Source, rows: NDArray[np.int64], artist: Artist, see: "_Network | None") -> Iterator[Drawn]:
    """Each image with its labels, split by split, in the order of the ids; some at a time are on their way."""
    is_remote = isinstance(source.manifest.base, S3Path)
    items = _records(source, _in_order_of_ids(source.manifest, rows))
    if see is not None:
        for chunk in _chunks(items):
            found = see([record for record, _ in chunk])
            yield from (artist.draw(*item, one) for item, one in zip(chunk, found, strict=True))
        return
    for _, drawn in in_order(items, lambda item: artist.draw(*item), 16 if is_remote else 2):
        yield drawn


def _in_order_of_ids(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    table = manifest.take(rows, ["id", "split"])
    keys = [(SPLITS.index(s), id) for s, id in zip(table["split"].to_pylist(), table["id"].to_pylist(), strict=True)]
    return rows[sorted(range(len(rows)), key=keys.__getitem__)]


def _records(source: Source, rows: NDArray[np.int64]) -> Iterator[tuple[Record, frozenset[str] | None]]:
    """Records with the tasks whose labels are known; about a thousand are held."""
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        yield from zip(source.manifest.records(part), source.tasks_of(part), strict=True)


def _chunks(
    items: Iterator[tuple[Record, frozenset[str] | None]],
) -> Iterator[list[tuple[Record, frozenset[str] | None]]]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _counted(
    pictures: Iterator[Drawn], done: Shown, total: int, told: Callable[[int, int], None]
) -> Iterator[tuple[int, Drawn]]:
    """The pictures, numbered from 1, as they are counted."""
    for number, drawn in enumerate(pictures, start=1):
        done.add(drawn)
        yield number, drawn
        told(number, total)


class _Network:
    """What a checkpoint predicts, boxes as shares of width and height; None for images that cannot be read."""

    def __init__(self, checkpoint: Place, manifest: Manifest) -> None:
        self._model: Any
        self._model, card = load_model(checkpoint)
        check_manifest(manifest, card, getattr(self._model, "stride", None))
        self._manifest, self._heads = manifest, tuple(card.tasks)

    def __call__(self, records: Sequence[Record]) -> list[Prediction | None]:
        manifest, images = self._manifest, {}
        for i, record in enumerate(records):
            with suppress(FileNotFoundError, ValueError):  # the artist says what is wrong with it
                images[i] = read_sample(record, manifest.base, manifest.size, manifest.lut, (), manifest.classes).image
        found: list[Prediction | None] = [None] * len(records)
        is_one_size = manifest.size is not None
        for part in [list(images)] if is_one_size and images else [[i] for i in images]:
            with torch.inference_mode():
                answers = self._model.predict(torch.stack([images[i] for i in part]), self._heads)
            for i, answer in zip(part, answers, strict=True):
                height, width = images[i].shape[1:]
                sides = torch.tensor([width, height, width, height], dtype=torch.float32)
                outputs = {
                    name: replace(one, boxes=one.boxes.cpu() / sides) if isinstance(one, Detections) else one
                    for name, one in answer.outputs.items()
                }
                found[i] = Prediction(outputs)
        return found


# ---- a folder -------------------------------------------------------------------------------------------------------


def _write_folder(pictures: Iterator[tuple[int, Drawn]], done: Shown, out: Place) -> None:
    """A PNG an image, and last index.csv, which says which is which."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["file", "id", "split", "labels", "fault"])
    for number, drawn in pictures:
        record = drawn.record
        tiles = [_fault_tile(one) if isinstance(one, Fault) else one for one in drawn.tiles]
        name = f"{number:05d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', record.id)[-80:]}.png"
        data = sheet_of(tiles, record.id, record.split, _facts(drawn))
        write_bytes(name, out, data)
        done.size += len(data)
        faults = "; ".join(one.sentence for one in drawn.tiles if isinstance(one, Fault))
        writer.writerow([name, record.id, record.split, "; ".join(drawn.facts), faults])
    write_text(out / INDEX, rows.getvalue())


def _fault_tile(fault: Fault) -> Tile:
    """A picture of a sentence."""
    width, height = max(240, fault.size[0]), max(100, fault.size[1])
    return Tile(fault.caption, draw_sentence(fault.sentence, (width, height)))


# ---- a page ---------------------------------------------------------------------------------------------------------


def _write_page(
    source: Source, pictures: Iterator[tuple[int, Drawn]], done: Shown, wish: Wish, out: Place, total: int
) -> None:
    """The page, an image after the other: it is there, whole, when all are."""
    splits = list(source.census.images)
    classes = source.manifest.classes
    boxes, pixels = colors_of(classes)
    content = template("labels.html").generate(
        name=source.name.rstrip("/").rpartition("/")[2], version=__version__,
        lede=_lede(source, wish, total), note=_note(done), splits=splits,
        scope="" if source.ledger is None else ", as far as their labels were bought",
        width=done.width, beside=done.beside,
        labeled=_labeled(source, splits), objects=_objects(source, splits, boxes),
        chips=[{"name": name, "color": _css(color)} for name, color in zip(classes.segmentation, pixels, strict=True)],
        keypoints=[{"name": side, "color": _css(c)} for side, c in SIDES.items() if classes.keypoints],
        pictures=(_figure(number, drawn) for number, drawn in pictures),
        pixels=lambda: _pixels(source, splits, done, pixels),
    )  # fmt: skip
    with replacing(out) as draft, draft.open("w", encoding="utf-8") as file:
        for part in content:
            file.write(part)
        done.size = file.tell()


def _figure(number: int, drawn: Drawn) -> dict[str, Any]:
    tiles = [
        {"source": "", "sentence": one.sentence, "caption": one.caption}
        if isinstance(one, Fault)
        else {"source": _data_uri(one.picture), "caption": one.caption + one.span, "size": one.picture.shape[1::-1]}
        for one in drawn.tiles
    ]
    return {"number": number, "id": drawn.record.id, "facts": _facts(drawn), "tiles": tiles}


def _facts(drawn: Drawn) -> str:
    height, width = drawn.record.size
    return " · ".join([drawn.record.split, f"{width} x {height} px", *drawn.facts])


def _data_uri(picture: Pixels) -> str:
    data = encoded(Image.fromarray(picture), "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _lede(source: Source, wish: Wish, total: int) -> str:
    there = len(source.rows)
    images = (
        f"{total:,} of {there:,} images" if total < there else f"All {there:,} images" if there > 1 else "One image"
    )
    if wish.ids:
        return f"{images}, as they were named."
    how = " The sample takes turns: one image of each class of objects, rare classes first." if total < there else ""
    return f"{images} with {'their' if there > 1 else 'its'} labels.{how}"


def _note(done: Shown) -> str:
    return f"{done.smaller}." if done.smaller else f"Pictures are drawn {done.width} px wide."


def _labeled(source: Source, splits: Sequence[str]) -> list[dict[str, Any]]:
    census = source.census
    rows = [_row("images", census.images, splits)]
    for what, counts in census.labeled.items():
        if any(counts.values()):
            rows.append(_row(f"with labels of {what}", counts, splits))
    return rows


def _objects(source: Source, splits: Sequence[str], colors: Sequence[Rgb]) -> list[dict[str, Any]]:
    found = zip(source.census.objects.items(), colors, strict=True)
    return [_row(name, counts, splits, color) for (name, counts), color in found]


def _pixels(source: Source, splits: Sequence[str], done: Shown, colors: Sequence[Rgb]) -> list[dict[str, Any]]:
    """The share of each class among the labeled pixels that were drawn, by split; [] where there are none."""
    if not done.pixels:
        return []
    parts = [done.pixels.get(split) for split in splits]
    total = np.sum(list(done.pixels.values()), axis=0)
    rows = []
    for i, (name, color) in enumerate(zip(source.manifest.classes.segmentation, colors, strict=True)):
        cells = ["" if p is None or not p.sum() else f"{100 * p[i] / p.sum():.1f} %" for p in (*parts, total)]
        rows.append({"name": name, "color": _css(color), "cells": cells})
    return rows


def _row(name: str, counts: Mapping[str, int], splits: Sequence[str], color: Rgb | None = None) -> dict[str, Any]:
    numbers = [counts[split] for split in splits]
    cells = [f"{number:,}" for number in (*numbers, sum(numbers))]
    return {"name": name, "color": "" if color is None else _css(color), "cells": cells}


def _css(color: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
