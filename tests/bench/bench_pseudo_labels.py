"""What a teacher's labels cost beside its forward passes: python tests/bench/bench_pseudo_labels.py [--record]

The teacher of configs/streets_teacher.yaml (image and depth in, segmentation out), with its backbone for CPUs and with
one as in the paper, labels scenes that lie on this disk: read, decode, predict, threshold, write a map for every image
and the rows of the shard, as a worker does. The yard stick is ``predict`` on the same batches from memory. Weights are
random and the threshold is so low that every pixel gets a label, which is the most that can be written. One thread; in
each round both take their turn, the figures are medians over the rounds. Target: 0.8 of the bare passes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from orchestrator.checkpoints import build
from orchestrator.components import Component
from orchestrator.config import load
from orchestrator.preparing import prepare
from orchestrator.pseudo_labels import Teaching, label_shard
from orchestrator.store import shard_path
from orchestrator.workers import PseudoJob
from tasks.base import sensors_of
from tasks.data.manifest import Manifest
from tasks.data.samples import Samples
from tasks.data.streets import Streets
from tasks.segmentation import Segmentation
from tasks.types import Batch
from tests.bench.results import record

IMAGES, BATCH, ROUNDS, TASKS = 32, 8, 7, ("segmentation",)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of the CPU, and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


def measured(size: tuple[int, int], model: Component, folder: Path) -> str:
    """One line of figures at H, W."""
    prepare(Streets(images=IMAGES, validation=1, test=1, size=size), folder / "data")
    manifest = Manifest.open(folder / "data")
    torch.manual_seed(0)
    network = build(model, manifest.classes, TASKS).eval()
    rows = manifest.rows("train")
    wanted, count = np.ones((len(rows), 1), bool), sum(p.numel() for p in network.parameters())
    job = PseudoJob(str(folder / "labels"), "none", TASKS, wanted, 1e-6, False, "pseudo:bench", "bench")

    def samples() -> Samples:
        return Samples(manifest, (), rows, sensors=sensors_of(network))

    def label() -> None:
        by = Teaching(
            network, {"segmentation": Segmentation()}, samples(), manifest, BATCH, torch.device("cpu"), lambda *_: None
        )
        shard_path(job.folder, 0).unlink(missing_ok=True)
        assert label_shard(job, 0, rows, wanted, lambda _: by) == IMAGES

    images = samples()
    batches = [Batch.of([images[int(r)] for r in rows[i : i + BATCH]], ()) for i in range(0, IMAGES, BATCH)]

    def bare() -> None:
        for batch in batches:
            network.predict(batch.images, TASKS, batch.inputs)

    label(), bare()
    times = np.array([[seconds(bare), seconds(label)] for _ in range(ROUNDS)])  # [rounds, what, clock]
    assert len(list((folder / "labels").rglob("*.png"))) == IMAGES
    ratio = np.median(times[:, 0] / times[:, 1], axis=0)
    rate = IMAGES / median(times[:, 1, 0].tolist())
    missed = "" if ratio[0] >= 0.8 else " MISSED"
    return (
        f"{size[0]}x{size[1]} px: {rate:.1f} images/s = {ratio[0]:.2f} of the bare passes (by the clock "
        f"{ratio[1]:.2f}; target 0.8{missed}) [{model.name}, {count / 1e6:.1f} M parameters, batch {BATCH}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    plain = load("streets_teacher").model
    teacher = replace(plain, options={**plain.options, "inputs": ("rgb", "depth")})
    lines = []
    for backbone, size in (("pyramid", (96, 128)), ("pyramid", (192, 256)), ("hrnet_w18_small_v2", (192, 256))):
        model = replace(teacher, options={**teacher.options, "backbone": backbone})
        with tempfile.TemporaryDirectory() as folder:
            lines.append(f"{backbone}, {measured(size, model, Path(folder))}")
        print(lines[-1])
    if asked.record:
        record(f"labels of a teacher, one thread: {'; '.join(lines)}")


if __name__ == "__main__":
    main()
