"""How long a training step and a forward pass take on this machine: a few real ones of a configured network."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.config import Train
from orchestrator.errors import RunError
from orchestrator.fitting import Data, fit
from orchestrator.identity import processor
from orchestrator.planning import Speed
from orchestrator.workers import Progress
from tasks.base import Model, sensors_of
from tasks.classes import ClassMap
from tasks.geometry import Size, rle_of_mask
from tasks.seeding import rng_of
from tasks.types import Batch, Objects, Sample, Target

WARM, STEPS = 1, 3  # steps (and passes) before the clock runs, and with it
OBJECTS = 10  # in an image


@dataclass(frozen=True)
class Invented:
    """Images of noise with boxes and maps of the right classes: what they show costs no time."""

    size: Size
    classes: ClassMap
    tasks: Sequence[str]
    sensors: Sequence[str] = ()

    def __getitem__(self, row: int) -> Sample:
        rng, (height, width) = rng_of("invented", row), self.size
        corner = rng.random((OBJECTS, 2)) * (0.7 * width, 0.7 * height)
        side = (0.05 + 0.25 * rng.random((OBJECTS, 2))) * (width, height)
        boxes = torch.from_numpy(np.concatenate([corner, corner + side], 1).astype(np.float32))
        labels = torch.from_numpy(rng.integers(0, max(1, len(self.classes.detection)), OBJECTS))
        blocks = rng.integers(0, max(1, len(self.classes.segmentation)), (-(-height // 16), -(-width // 16)))
        whole = torch.from_numpy(np.kron(blocks, np.ones((16, 16), np.int64))[:height, :width].copy())
        every: dict[str, Target] = {
            "detection": Objects(boxes, labels, torch.zeros(OBJECTS, dtype=torch.bool)),
            "segmentation": whole,
            "depth": 1.0 + whole.float(),
        }
        every |= dict.fromkeys(("instances", "keypoints", "pickup"), self._whole(boxes, labels))
        image = torch.from_numpy(rng.random((3, height, width), dtype=np.float32))
        inputs = {name: image[:1] for name in self.sensors}
        return Sample(f"invented/{row}", image, {task: every[task] for task in self.tasks if task in every}, inputs)

    def _whole(self, boxes: Tensor, labels: Tensor) -> Objects:
        """The same boxes with all that an object may have: one mask, and every keypoint, in the middle."""
        mask = rle_of_mask(np.ones(self.size, bool))
        middle = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, torch.full((len(boxes), 1), 2.0)], 1)[:, None]
        points = middle.repeat(1, max(1, len(self.classes.keypoints)), 1)
        return Objects(boxes, labels, torch.zeros(len(boxes), dtype=torch.bool), (mask,) * len(boxes), points)


def measured(
    model: nn.Module,
    weighting: nn.Module,
    train: Train,
    images: Invented,
    *,
    processes: int,
    batch: int,
    threads: int,
    wants_gpu: bool,
    progress: Progress,
) -> Speed:
    """Seconds of a step of one of the processes that train together, and of a pass of one image in batches.

    What processes tell each other, and reading images, is not in it. Nothing is written.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")
    model, weighting = model.to(device), weighting.to(device)
    images = replace(images, sensors=sensors_of(model))
    part = train.batch // processes
    alone = replace(train, batch=part, processes=1, evaluations=1, validate_every=None)
    try:
        step = _step_seconds(model, weighting, alone, images, device, progress)
        image = _image_seconds(model.eval(), images, batch, device, progress)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"--measure: {part} images of {images.size[0]} x {images.size[1]} px a step do not fit into this GPU; "
            "expected room for them: raise train.accumulate or train.processes, or lower data.size"
        ) from error
    said = f"{step:.3g} s a step of {part} images a process, {image:.3g} s an image; measured on {_on(device, threads)}"
    lacks = ", while a trial asks for GPUs" if wants_gpu and device.type == "cpu" else ""
    return Speed(step, image, f"{said}{lacks}", device.type == "cuda")


def _step_seconds(
    model: nn.Module, weighting: nn.Module, train: Train, images: Invented, device: torch.device, progress: Progress
) -> float:
    count, ticks = WARM + STEPS, list[float]()

    def tick(phase: str, done: int, total: int) -> None:
        _wait(device)
        ticks.append(time.perf_counter())
        progress(phase, done, total)

    rows = np.arange(train.batch * count)
    data = Data(images, rows, np.ones((len(rows), len(images.tasks)), bool), tuple(images.tasks), images.classes)
    fit(
        model, weighting, data, replace(train, checkpoint_steps=count + 1), steps=count, seed=0, cycle=0,
        folder=Path(os.devnull), judge=lambda candidate: (0.0, {}), keep=lambda candidate, step: None, progress=tick,
    )  # fmt: skip
    return (ticks[-1] - ticks[WARM - 1]) / STEPS


def _image_seconds(model: nn.Module, images: Invented, batch: int, device: torch.device, progress: Progress) -> float:
    assert isinstance(model, Model)
    chunk = Batch.of([images[row] for row in range(batch)], ()).to(device)
    ticks = []
    for done in range(WARM + STEPS):
        model.predict(chunk.images, tuple(images.tasks), chunk.inputs)
        _wait(device)
        ticks.append(time.perf_counter())
        progress("evaluate", done + 1, WARM + STEPS)
    return (ticks[-1] - ticks[WARM - 1]) / (STEPS * batch)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _on(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    return f"{threads} thread{'s' if threads > 1 else ''} of {processor()}"
