"""mtal study side-by-side: what several arms of a run answer to the same images, beside the truth, as one page.

One network is in memory at a time, and of its answers only the pictures are kept.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from orchestrator import __version__
from orchestrator.checkpoints import load_model
from orchestrator.components import Component, make
from orchestrator.curves import read_experiment, reference_of
from orchestrator.drawing import Pixels, colors_of, draw_classes, draw_heat, encoded, resized
from orchestrator.errors import ConfigError, RunError
from orchestrator.exporting import faults, run_manifest
from orchestrator.label_sources import Source, spread
from orchestrator.pages import template
from orchestrator.store import RunFolder, read_json, write_text
from orchestrator.tables import name_of, number
from tasks.base import sensors_of
from tasks.data.files import Place, leads_below
from tasks.data.manifest import Manifest
from tasks.data.samples import Samples
from tasks.types import DepthMap, Output, Sample, SegMap, Target

TASKS = ("segmentation", "depth")  # what is drawn
UNITS = {"depth": " m"}
WIDTH = 320  # of a picture, in pixels
MOST = 200  # images on a page
Told = Callable[[str, str, int, int], None]  # unit, phase, images done, of how many


@dataclass(frozen=True)
class Wish:
    """What is to be shown."""

    arms: tuple[str, ...]
    images: int = 6
    seed: int | None = None  # None = the first one
    draw: int = 0  # another number, another sample


@dataclass(frozen=True)
class Tile:
    """A picture on the page."""

    source: str  # data:
    caption: str
    size: tuple[int, int]  # width, height


def side_by_side(folder: Place, wish: Wish, out: Place, told: Told = lambda *_: None) -> int:
    """Write the page; how many images are on it. ConfigError or RunError for what cannot be shown."""
    run = RunFolder(folder)
    experiment = read_experiment(run.experiment)
    seed = _check(run, experiment, wish)
    with faults():
        manifest = run_manifest(run)
    split = reference_of(read_json(run.reference)).split or "val"
    source = Source(str(folder), manifest, manifest.rows(split))
    rows = spread(source, wish.images, wish.draw).tolist()
    weights = {arm: _checkpoint(run, arm, seed) for arm in wish.arms}  # all are there before the first one is read
    table = _Table(manifest, experiment, rows)
    names = manifest.ids(np.array(rows, np.int64))
    for done, arm in enumerate(wish.arms):
        told(str(folder), "show", done * len(rows), len(wish.arms) * len(rows))
        table.add(arm, weights[arm])
    page = template("side_by_side.html").render(
        version=__version__, title=str(experiment.get("name") or folder.name), arms=wish.arms, split=split, seed=seed,
        frames=[{"id": id, "lines": table.lines(row)} for id, row in zip(names, rows, strict=True)],
        columns=2 + len(wish.arms), width=WIDTH, classes=table.classes,
    )  # fmt: skip
    write_text(out, page)
    return len(rows)


def _check(run: RunFolder, experiment: Mapping[str, Any], wish: Wish) -> int:
    """The seed that is meant."""
    arms, seeds = experiment.get("arms"), experiment.get("seeds")
    if not isinstance(arms, Mapping) or not isinstance(seeds, list) or not seeds or not run.reference.is_file():
        raise RunError(
            f"{run.root}: has no experiment.yaml and reference.json; expected a run: run its experiment first"
        )
    if len(set(wish.arms)) < len(wish.arms):
        raise ConfigError(f"--arms {','.join(wish.arms)}: an arm is named twice; expected each once: leave one out")
    for arm in wish.arms:
        if arm not in arms:
            raise ConfigError(f"--arms {arm}: the run has no such arm; expected one of {', '.join(arms)}: choose one")
    if wish.seed is not None and wish.seed not in seeds:
        raise ConfigError(f"--seed {wish.seed}: the run has no such seed; expected one of {', '.join(map(str, seeds))}")
    if wish.images > MOST:
        raise ConfigError(f"--images {wish.images}: expected at most {MOST} on a page: ask for fewer")
    return int(seeds[0] if wish.seed is None else wish.seed)


def _checkpoint(run: RunFolder, arm: str, seed: int) -> Place:
    """The network of the last finished cycle."""
    marker, index = None, 0
    while (path := run.cycle(arm, seed, index) / "cycle.json").is_file():
        marker, index = path, index + 1
    if marker is None:
        raise RunError(f"{run.root}: {arm}, seed {seed}: no cycle is finished; run the experiment to its end")
    found = run.root / str(read_json(marker).get("checkpoint"))
    if not leads_below(found, run.root):
        raise RunError(f"{marker}: its checkpoint lies outside of the run folder; restore that file, or run it again")
    return found


class _Table:
    """The pictures of each image: a line a task, the truth and then an arm a column."""

    def __init__(self, manifest: Manifest, experiment: Mapping[str, Any], rows: Sequence[int]) -> None:
        self.manifest, self.rows = manifest, rows
        planned = experiment.get("tasks") or {}
        options = {name: planned[name] or {} for name in TASKS if name in planned}
        if not options:
            raise ConfigError(f"side-by-side draws {' and '.join(TASKS)}; expected a run with one of these tasks")
        self.tasks = {name: make("task", Component(name, one), f"tasks.{name}") for name, one in options.items()}
        self.colors = colors_of(manifest.classes)[1]
        self.pictures: dict[int, Pixels] = {}
        self.found: dict[int, dict[str, list[Tile | None]]] = {}
        samples = self._samples(())
        for row in rows:
            sample = _readable(samples, row)
            height, width = sample.image.shape[1:]
            scale = min(WIDTH / width, WIDTH / height, 4.0)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            pixels = (sample.image * 255).round().byte().permute(1, 2, 0).numpy()
            self.pictures[row] = resized(pixels, size)
            self.found[row] = {task: [self._truth(row, task, sample)] for task in self.tasks}

    def _samples(self, sensors: Sequence[str]) -> Samples:
        return Samples(self.manifest, tuple(self.tasks), np.array(self.rows, np.int64), sensors=sensors)

    @property
    def classes(self) -> list[tuple[str, str]]:
        """Names and colours of the classes of pixels; [] where none are drawn."""
        if "segmentation" not in self.tasks:
            return []
        colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in self.colors]
        return list(zip(self.manifest.classes.segmentation, colors, strict=True))

    def lines(self, row: int) -> list[list[Tile | None]]:
        """The pictures of an image, line by line; the first stands before the first line."""
        lines = [tiles for tiles in self.found[row].values() if any(tiles)]
        return [[_tile(self.pictures[row], "image") if i == 0 else None, *one] for i, one in enumerate(lines)]

    def add(self, arm: str, checkpoint: Place) -> None:
        """A column: what an arm's network answers."""
        network, card = load_model(checkpoint)
        model: Any = network
        heads = tuple(task for task in self.tasks if task in card.tasks)
        samples = self._samples(sensors_of(model))
        shown = {task: f"{arm} (was shown it)" if task in sensors_of(model) else arm for task in heads}
        for row in self.rows:
            sample = _readable(samples, row)
            inputs = {name: one[None] for name, one in sample.inputs.items()}
            with torch.inference_mode():
                outputs = model.predict(sample.image[None], heads, inputs)[0].outputs
            for task, tiles in self.found[row].items():
                output = outputs.get(task)
                tiles.append(None if output is None else self._answer(row, task, shown[task], sample, output))

    def _truth(self, row: int, task: str, sample: Sample) -> Tile | None:
        target = sample.targets.get(task)
        if not isinstance(target, torch.Tensor):
            return None
        return _tile(self._drawn(row, task, target.numpy(), target), "truth")

    def _answer(self, row: int, task: str, who: str, sample: Sample, output: Output) -> Tile | None:
        values = _values(output)
        if values is None:
            return None
        target = sample.targets.get(task)
        return _tile(self._drawn(row, task, values, target), f"{who}{self._figure(task, sample, output)}")

    def _drawn(self, row: int, task: str, values: Any, target: Target | None) -> Pixels:
        """Classes in their colours; depth in the range of the truth, so that all pictures of an image are alike."""
        if task == "segmentation":
            return draw_classes(self.pictures[row], values.astype(np.uint8), self.colors)
        known = target[target.isfinite() & (target > 0)] if isinstance(target, torch.Tensor) else torch.empty(0)
        shown = known.numpy() if len(known) else values[np.isfinite(values)]
        low, high = np.percentile(shown, (0.5, 99.5)).tolist() if shown.size else (0.0, 0.0)
        holes = np.where(values > 0, values, np.nan).astype(np.float32)
        return draw_heat(self.pictures[row], holes, low, high, cv2.COLORMAP_VIRIDIS)

    def _figure(self, task: str, sample: Sample, output: Output) -> str:
        """The main figure of this image alone; empty where it has no label."""
        target = sample.targets.get(task)
        if target is None:
            return ""
        metric = self.tasks[task].metric(self.manifest.classes)
        metric.update([output], [target], [sample.id])
        name = f"{task}.{metric.main}"
        return f": {name_of(name).partition(',')[0]} {number(metric.compute()[metric.main], name)}{UNITS.get(task, '')}"


def _values(output: Output) -> Any:
    """``[h, w]``: classes or metres; None for other outputs."""
    if isinstance(output, SegMap):
        return output.log_probs.argmax(0).cpu().numpy()
    return output.metres.float().cpu().numpy() if isinstance(output, DepthMap) else None


def _readable(samples: Samples, row: int) -> Sample:
    try:
        return samples[row]
    except (FileNotFoundError, ValueError) as error:
        raise RunError(f"{error}; expected the images that the run was made from") from error


def _tile(picture: Pixels, caption: str) -> Tile:
    data = base64.b64encode(encoded(Image.fromarray(picture), "JPEG", quality=85, subsampling=0)).decode()
    return Tile(f"data:image/jpeg;base64,{data}", caption, (picture.shape[1], picture.shape[0]))
