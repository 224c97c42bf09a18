"""How scoring scales over actors.  Run on a quiet machine: python tests/bench/bench_scaling.py

One actor and two score the same images in turns, with a stub that burns 50 ms of one thread's CPU time for each image,
then with a real network. Both sets of actors are there all the time; a run is timed from the first call of a shard to
the last answer, after every process has loaded its model. The median of five runs each.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.checkpoints import Card, save_model
from orchestrator.components import Component
from orchestrator.config import Cluster
from orchestrator.display import Display
from orchestrator.identity import code_fingerprint
from orchestrator.tuning import cluster, pool_workers
from orchestrator.workers import ScoreJob, Setup, Workers
from strategies.sample_pool import CLASSES, SampleNetwork
from tasks.classes import ClassMap
from tasks.data.manifest import NAME, Record, write_manifest
from tasks.nets.presets import small
from tasks.types import Batch, Losses, Prediction
from tests.bench.results import record

IMAGES, SHARD, BATCH, SIZE, EACH, ROUNDS = 96, 8, 4, (96, 160), 0.05, 5
TASKS = ("detection", "segmentation")


class Burner(nn.Module):
    """Answers as the sample network does, after 50 ms of CPU time an image."""

    def __init__(self, classes: ClassMap, tasks: Sequence[str]) -> None:
        super().__init__()
        self.network, self.provides = SampleNetwork(classes), frozenset(tasks)
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Losses:
        raise NotImplementedError("is only asked")

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        end = time.thread_time() + EACH * len(images)
        while time.thread_time() < end:
            pass
        return self.network.predict(images, heads or sorted(self.provides), inputs)


def photographs(folder: Path) -> None:
    """A prepared pool of small pictures."""
    rng, records = np.random.default_rng(0), []
    for row in range(IMAGES):
        name = f"{row:04d}.png"
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(folder / name)
        records.append(Record(name, name, SIZE, "train"))
    write_manifest(folder / NAME, records, CLASSES, [255] * 256, SIZE)


def seconds(workers: Workers, folder: Path, checkpoint: Path, images: int) -> float:
    """Scoring of the first ``images``."""
    left_out = np.arange(IMAGES) >= images
    strategy = {"entropy": Component("entropy")}
    with tempfile.TemporaryDirectory(dir=folder) as scores:
        job = ScoreJob(scores, str(checkpoint), strategy, 0, 0, np.zeros(IMAGES, bool), left_out=left_out)
        start = time.perf_counter()
        workers.score(job)
        return time.perf_counter() - start


def compared(folder: Path, model: Component, network: nn.Module) -> tuple[float, float]:
    """Images a second of one actor and of two, the median of runs in turns."""
    checkpoint = folder / f"{model.name.partition(':')[2] or model.name}.pt"
    save_model(checkpoint, network, Card(model, TASKS, CLASSES, SIZE, 0))
    setup = Setup(
        str(folder), {task: {} for task in TASKS}, model, Component("equal"), BATCH, SHARD, 1, 1 << 28, False,
        code_fingerprint(),
    )  # fmt: skip
    display = Display(Console(quiet=True))
    with (
        pool_workers(setup, display, "one", Cluster(workers_per_trial=1)) as one,
        pool_workers(setup, display, "two", Cluster(workers_per_trial=2)) as two,
    ):
        for workers in (one, two, two):  # every process loads the model, and decodes the images
            seconds(workers, folder, checkpoint, IMAGES)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for workers, taken in zip((one, two), times, strict=True):
                taken.append(seconds(workers, folder, checkpoint, IMAGES))
    return IMAGES / median(times[0]), IMAGES / median(times[1])


def main() -> None:
    with tempfile.TemporaryDirectory() as place, cluster("local", cpus=4):
        folder = Path(place)
        photographs(folder)
        stub = compared(folder, Component("tests.bench.bench_scaling:Burner"), Burner(CLASSES, TASKS))
        real = compared(folder, Component("small", {"width": 52}), small(CLASSES, TASKS, width=52))
    record(
        f"scoring by 2 actors / 1 actor: stub of {EACH * 1e3:.0f} ms CPU an image {stub[1] / stub[0]:.2f} "
        f"({stub[0]:.1f} -> {stub[1]:.1f} images/s) (target: at least 1.6); network of 1.7 M parameters "
        f"at {SIZE[0]}x{SIZE[1]} {real[1] / real[0]:.2f} ({real[0]:.1f} -> {real[1]:.1f} images/s)"
    )


if __name__ == "__main__":
    main()
