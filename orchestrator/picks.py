"""What was chosen for labeling, with the reasons: the purchase of a run's cycle, or the top of a list of scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from orchestrator.errors import ConfigError, RunError
from orchestrator.exporting import head_of, own_keypoints, run_manifest
from orchestrator.store import RunFolder, read_json, read_metadata, read_table
from tasks.data.files import Place, place, resolve
from tasks.data.manifest import NAME, Manifest, Record
from tasks.seeding import key_of

TITLE = 50  # characters that the title of a project may have


@dataclass(frozen=True)
class Pick:
    """An image that is to be labeled."""

    id: str
    path: Place  # of the image
    size: tuple[int, int]  # H, W
    reasons: Mapping[str, Any]  # rank, score, scores, strategy, ...: fields of its task


@dataclass(frozen=True)
class Images:
    """The images that were chosen from: a prepared pool, or a folder of images."""

    base: Place  # where they lie: what their names start at
    manifest: Manifest | None = None

    @staticmethod
    def of(data: str) -> "Images":
        """Those of a prepared folder, its manifest, or a folder of images."""
        folder = place(data)
        if folder.suffix == ".parquet" or (folder / NAME).is_file():
            manifest = Manifest.open(folder)
            return Images(manifest.base, manifest)
        return Images(folder)

    def records(self, ids: Sequence[str], with_sizes: bool = True) -> list[Record]:
        """The images of these ids. ValueError or ConfigError where one is not here."""
        if self.manifest is not None:
            return self.manifest.records(self.manifest.rows_of(np.array([key_of(id) for id in ids], np.uint64)))
        return [Record(id, id, _size(self.base / id) if with_sizes else (0, 0), "train") for id in ids]

    def path(self, record: Record) -> Place:
        return resolve(record.uri, self.base)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """Those of the combined COCO file; [] where nobody has said."""
        if self.manifest is None:
            return []
        found: list[dict[str, Any]] = head_of(self.manifest, own_keypoints(self.manifest))["categories"]
        return found


@dataclass(frozen=True)
class Picks:
    """Images to label, the first one first."""

    title: str  # of the project, where no other one is asked for
    chosen: Sequence[Pick]
    images: Images
    checkpoint: str = ""  # the network that chose them; "" = not known


@dataclass(frozen=True)
class Bid:
    """Which purchase of a run: of which arm, under which seed, after which cycle."""

    arm: str = ""  # "" = the only one
    seed: int | None = None  # None = the first one
    cycle: int | None = None  # None = the last one that has chosen


def trial_of(run: RunFolder, bid: Bid) -> tuple[str, int]:
    """The arm and the seed that are meant. ConfigError where that is not clear, RunError where it has not begun."""
    tree = yaml.safe_load(run.experiment.read_text(encoding="utf-8"))
    arms, seeds = list(tree["arms"]), list(tree["seeds"])
    arm = bid.arm or (arms[0] if len(arms) == 1 else "")
    seed = seeds[0] if bid.seed is None else bid.seed
    if arm not in arms:
        found = f"no arm {arm!r}" if arm else "several arms"
        raise ConfigError(f"{run.root}: has {found}; expected one of {', '.join(arms)}: choose it with --arm")
    if seed not in seeds:
        raise ConfigError(f"{run.root}: has no seed {seed}; expected one of {', '.join(map(str, seeds))}: choose it")
    return arm, seed


def chosen_cycle(run: RunFolder, arm: str, seed: int, wanted: int | None = None) -> tuple[int, pa.Table]:
    """The last cycle (or the wanted one) that has chosen, and what: rows in the order of the choice. RunError if none.

    What waits for people's labels is in ``chosen.parquet``, what has been bought in ``bought.parquet``.
    """
    index, found = 0, None
    while (folder := run.cycle(arm, seed, index)).is_dir():
        name = next((n for n in ("chosen.parquet", "bought.parquet") if (folder / n).is_file()), None)
        if name is not None and wanted in (None, index):
            found = index, folder / name
        index += 1
    if found is None:
        told = "" if wanted is None else f" in cycle {wanted}"
        raise RunError(
            f"{run.root}: arm {arm!r} under seed {seed} has chosen nothing{told}; expected a purchase: type mtal run "
            f"first"
        )
    return found[0], read_table(found[1])


def title_of(run: RunFolder, arm: str, seed: int) -> str:
    """The title of the project of an arm under a seed."""
    told = f" {arm} seed {seed}"
    return f"{run.root.absolute().name[: TITLE - len(told)]}{told}"[-TITLE:]


def picks_of_run(root: Place, bid: Bid, top: int | None = None) -> Picks:
    """What an arm of a run has chosen last."""
    run = RunFolder(root)
    arm, seed = trial_of(run, bid)
    index, table = chosen_cycle(run, arm, seed, bid.cycle)
    images = images_of_run(run)
    strategy = yaml.safe_load(run.experiment.read_text(encoding="utf-8"))["arms"][arm].get("strategy", "random")
    name = strategy["name"] if isinstance(strategy, Mapping) else str(strategy)
    told = {"strategy": name, "run": run.root.absolute().name, "arm": arm, "seed": seed, "cycle": index}
    rows = table.slice(0, top).to_pylist()
    scores = [{key: row[key] for key in row if key not in ("id", "key", "tasks")} for row in rows]
    chosen = _picks(images, [row["id"] for row in rows], range(1, len(rows) + 1), scores, told)
    made = read_json(run.cycle(arm, seed, index) / "cycle.json")["checkpoint"]
    return Picks(title_of(run, arm, seed), chosen, images, str(run.root / made))


def images_of_run(run: RunFolder) -> Images:
    """The data of a run."""
    manifest = run_manifest(run)
    return Images(manifest.base, manifest)


def picks_of_scores(path: Place, data: str, strategy: str = "", top: int | None = None) -> Picks:
    """The images that a strategy would label first, of a list that ``mtal score`` wrote over the pool in ``data``."""
    table, name, images = read_table(path), strategy_of(path, strategy), _images_of_list(path, data)
    rows = table.filter(pc.is_valid(table[f"{name}.rank"])).sort_by(f"{name}.rank").slice(0, top).to_pylist()
    if top is not None and len(rows) < min(top, table.num_rows):
        raise ConfigError(
            f"{path}: {name} has chosen {len(rows)} images; expected {top}, as --top says: type mtal score with that "
            f"--top, or ask for fewer"
        )
    ranks = [row.pop(f"{name}.rank") for row in rows]
    prefix = f"{name}."
    scores = [{key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)} for row in rows]
    chosen = _picks(images, [row["id"] for row in rows], ranks, scores, {"strategy": name})
    return Picks(title_of_scores(data, name), chosen, images)


def strategy_of(path: Place, asked: str) -> str:
    """The strategy of a list that is meant. ConfigError where that is not clear."""
    names = [
        name.removesuffix(".rank")
        for name in read_metadata(path).schema.to_arrow_schema().names
        if name.endswith(".rank")
    ]
    if not names:
        raise ConfigError(f"{path}: has no ranks; expected a list that mtal score wrote: give another")
    if asked not in (*names, *([""] if len(names) == 1 else [])):
        found = f"no strategy {asked!r}" if asked else "several strategies"
        raise ConfigError(f"{path}: has {found}; expected one of {', '.join(names)}: choose it with --strategy")
    return asked or names[0]


def title_of_scores(data: str, strategy: str) -> str:
    """The title of the project of a list over the pool in ``data``."""
    name = place(data).absolute().name
    return f"{name[: TITLE - len(strategy) - 1]} {strategy}"[-TITLE:]


def _images_of_list(path: Place, data: str) -> Images:
    if not data:
        raise ConfigError(f"{path}: tells ids, not where the images are; expected that, too: add --data")
    return Images.of(data)


def _picks(
    images: Images,
    ids: Sequence[str],
    ranks: Sequence[int],
    scores: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
) -> list[Pick]:
    found = []
    for rank, record, own in zip(ranks, images.records(ids), scores, strict=True):
        finite = {key: _number(value) for key, value in own.items()}
        reasons = {"rank": rank, "score": finite["value"], "scores": finite, **told}
        found.append(Pick(record.id, images.path(record), record.size, reasons))
    return found


def _size(path: Place) -> tuple[int, int]:
    """H, W of an image as it is shown."""
    try:
        opened: Any = path.open("rb")
        with opened as file, Image.open(file) as image:
            turned = image.getexif().get(Base.Orientation, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such image; expected the pool that was scored: correct --data") from None
    except (SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise ConfigError(f"{path}: is not a readable image ({error}); expected a whole one: repair it") from None


def _number(value: Any) -> float | None:
    """A number that JSON has; None for others."""
    return float(value) if value is not None and math.isfinite(value) else None
