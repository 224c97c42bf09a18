"""What the orchestration costs: one trial under Ray against a plain script of the same steps and forward passes.

    python tests/bench/bench_orchestration.py

The trial: cycle 0 and three cycles of the demonstration, with EquAL and one seed. Ray's own start is not in it; the
start of the trial's processes and all they write is. The plain script is a process of its own: it reads the same
prepared images, makes the same optimiser steps on the same batches, and the same forward passes (validation, test, and
the pool with its mirror images), and does nothing else: no metric, no score, no file.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from orchestrator.ray_settings import set_environment

set_environment("local")

import numpy as np  # noqa: E402 - Ray reads its environment when it is imported
import torch  # noqa: E402

from orchestrator import here, running, tuning  # noqa: E402
from orchestrator.config import experiment_of, load, plain  # noqa: E402
from orchestrator.display import Display  # noqa: E402
from orchestrator.fitting import order, rate_share  # noqa: E402
from orchestrator.trials import Plan, Unit  # noqa: E402
from strategies.views import HFlip  # noqa: E402
from tasks.augment import Augment  # noqa: E402
from tasks.data.manifest import Manifest  # noqa: E402
from tasks.data.samples import Samples  # noqa: E402
from tasks.nets.presets import small  # noqa: E402
from tasks.seeding import rng_of  # noqa: E402
from tasks.types import Batch  # noqa: E402
from tests.bench.results import record  # noqa: E402

TASKS = ("detection", "segmentation")
STEPS, LABELED, BATCH = (240, 60, 60, 60), (120, 150, 180, 210), 8  # as configs/demo.yaml says
QUIET = Display(Console(quiet=True))


def plan_in(folder: Path) -> Plan:
    """The demonstration with one arm, one seed and a reference that is quickly made."""
    tree = plain(load("demo"))
    tree |= {"output": str(folder), "seeds": [0], "arms": {"equal": {"strategy": "equal"}}}
    tree["reference"] = {"steps": 60, "seeds": [0]}
    return running.planned(experiment_of(tree, "bench"), QUIET.update)


def script(data: str) -> None:
    """The plain script."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    manifest = Manifest.open(data)
    samples = Samples(manifest, TASKS)
    train, val, test = (manifest.rows(split) for split in ("train", "val", "test"))
    model = small(manifest.classes, TASKS)
    for cycle, (steps, labeled) in enumerate(zip(STEPS, LABELED, strict=True)):
        fit(model, samples, train[:labeled], manifest, steps, cycle)
        model.eval()
        for rows in (val, test):
            forward(model, samples, rows)
        if cycle + 1 < len(STEPS):
            forward(model, samples, train[labeled:], mirrored=True)


def fit(
    model: torch.nn.Module, samples: Samples, rows: "np.ndarray", manifest: Manifest, steps: int, cycle: int
) -> None:
    """Optimiser steps, as anybody would write them."""
    model.train()
    augment = Augment(flip=0.5, zoom=0.5, zoom_range=(1.0, 1.5), colour=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-4, fused=True)
    for step in range(steps):
        chosen = [
            augment.apply(samples[int(rows[i])], manifest.classes, rng_of("augment", cycle, epoch, i))
            for epoch, i in order(len(rows), step * BATCH, BATCH, "bench", cycle)
        ]
        optimizer.param_groups[0]["lr"] = 4e-3 * rate_share("onecycle", step / steps)
        optimizer.zero_grad(set_to_none=True)
        means = model(Batch.of(chosen, TASKS)).means()
        sum((2.0 if part in ("detection.cls", "detection.box") else 1.0) * v for part, v in means.items()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def forward(model: torch.nn.Module, samples: Samples, rows: "np.ndarray", mirrored: bool = False) -> None:
    """Forward passes over some images, and over their mirror images for the segmentation head alone."""
    for start in range(0, len(rows), 16):
        images = torch.stack([samples[int(row)].image for row in rows[start : start + 16]])
        model.predict(images, ("segmentation",) if mirrored else TASKS)
        if mirrored:
            model.predict(HFlip().render(images, {}, None, (), torch.zeros(3)).images, ("segmentation",))


def measure(rounds: int = 1) -> list[tuple[float, float]]:
    """Seconds (under Ray, plain), alternating."""
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            plan = plan_in(Path(scratch))
            running.run(plan, lambda p, units: here.run_units(p, [u for u in units if u.kind == "reference"], QUIET))
            with tuning.cluster("local"):
                start = time.perf_counter()
                failures = tuning.run_units(plan, [Unit("arm", "equal", 0)], QUIET)
                under_ray = time.perf_counter() - start
            assert not failures, failures
            start = time.perf_counter()
            words = [sys.executable, "-W", "ignore", __file__, plan.manifest]
            subprocess.run(words, check=True, cwd=Path(__file__).parents[2], env=one_thread())
            found.append((under_ray, time.perf_counter() - start))
    return found


def one_thread() -> dict[str, str]:
    """The environment of a process with one thread, as Ray gives it to a worker."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    if len(sys.argv) == 2:
        script(sys.argv[1])
    else:
        for ray_seconds, plain_seconds in measure():
            record(
                f"one trial under Ray {ray_seconds:.1f} s, plain script {plain_seconds:.1f} s, "
                f"ratio {ray_seconds / plain_seconds:.3f} (target: at most 1.15)"
            )
