"""What the orchestration costs: one trial under Ray against a plain script of the same steps and forward passes.

    python tests/bench/bench_orchestration.py

The trial: cycle 0 and three cycles of the demonstration with EquAL, one seed, and two and a half times the steps. Ray's
own start is not in it; the start of the trial's processes and all they write is. The plain script is a process of its
own: it reads the same prepared images, makes as many optimiser steps on batches of the same size, and the same forward
passes (validation, test, and the pool with its mirror images), and does nothing else: no metric, no score, no file.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from orchestrator.ray_settings import set_environment

set_environment("local")

import numpy as np  # noqa: E402 - Ray reads its environment when it is imported
import torch  # noqa: E402

from orchestrator import here, running, tuning  # noqa: E402
from orchestrator.components import make  # noqa: E402
from orchestrator.config import experiment_of, load, plain  # noqa: E402
from orchestrator.display import Display  # noqa: E402
from orchestrator.fitting import order, rate_share  # noqa: E402
from orchestrator.trials import Failure, Plan, Unit  # noqa: E402
from strategies.views import HFlip  # noqa: E402
from tasks.augment import Augment  # noqa: E402
from tasks.data.manifest import Manifest  # noqa: E402
from tasks.data.samples import Samples  # noqa: E402
from tasks.seeding import rng_of  # noqa: E402
from tasks.types import Batch  # noqa: E402
from tests.bench.results import record  # noqa: E402

DEMO = load("demo")
TASKS = tuple(DEMO.tasks)
STEPS = (600, 150, 150, 150)
QUIET = Display(Console(quiet=True))


def plan_in(folder: Path) -> Plan:
    """The trial's experiment, with a reference that is quickly made."""
    tree = plain(DEMO)
    tree |= {"output": str(folder), "seeds": [0], "arms": {"equal": {"strategy": "equal"}}}
    tree["reference"] = {"steps": 60, "seeds": [0]}
    tree["train"] |= {"first_steps": STEPS[0], "steps": STEPS[1]}
    return running.planned(experiment_of(tree, "bench"), QUIET.update)


def script(data: str) -> None:
    """The plain script."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    manifest = Manifest.open(data)
    samples = Samples(manifest, TASKS)
    train, val, test = (manifest.rows(split) for split in ("train", "val", "test"))
    model = make("model", DEMO.model, "model", manifest.classes, TASKS)
    for cycle, steps in enumerate(STEPS):
        labeled = round((DEMO.active.initial + cycle * DEMO.active.budget.amount) * len(train))
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
    settings = DEMO.train
    augment = Augment(settings.flip, settings.zoom, (1.0, settings.zoom_to), settings.colour)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.weight_decay, fused=True)
    weighting = make("weighting", DEMO.weighting, "weighting")
    for step in range(steps):
        chosen = [
            augment.apply(samples[int(rows[i])], manifest.classes, rng_of("augment", cycle, epoch, i))
            for epoch, i in order(len(rows), step * settings.batch, settings.batch, "bench", cycle)
        ]
        optimizer.param_groups[0]["lr"] = settings.rate * rate_share(settings.schedule, step / steps)
        optimizer.zero_grad(set_to_none=True)
        weighting.total(model(Batch.of(chosen, TASKS)).means(), step=step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def forward(model: torch.nn.Module, samples: Samples, rows: "np.ndarray", mirrored: bool = False) -> None:
    """Forward passes over some images, and over their mirror images for the segmentation head alone."""
    for start in range(0, len(rows), 16):
        images = torch.stack([samples[int(row)].image for row in rows[start : start + 16]])
        model.predict(images, ("segmentation",) if mirrored else TASKS)
        if mirrored:
            model.predict(HFlip().render(images, {}, None, (), torch.zeros(3)).images, ("segmentation",))


def under_ray(plan: Plan) -> float:
    """Seconds of the trial; it makes its own cycle 0."""
    seconds = []

    def execute(plan: Plan, units: Sequence[Unit]) -> list[Failure]:
        if any(unit.kind == "reference" for unit in units):
            return here.run_units(plan, [unit for unit in units if unit.kind == "reference"], QUIET)
        if not units:
            return []
        with tuning.cluster("local"):
            start = time.perf_counter()
            failures = tuning.run_units(plan, units, QUIET)
            seconds.append(time.perf_counter() - start)
        return failures

    _, failures = running.run(plan, execute)
    assert not failures, failures
    return sum(seconds)


def in_a_script(plan: Plan) -> float:
    """Seconds of the plain script."""
    start = time.perf_counter()
    words = [sys.executable, "-W", "ignore", __file__, plan.manifest]
    subprocess.run(words, check=True, cwd=Path(__file__).parents[2], env=one_thread())
    return time.perf_counter() - start


def one_thread() -> dict[str, str]:
    """The environment of a process with one thread, as Ray gives it to a worker."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


if __name__ == "__main__":
    if len(sys.argv) == 2:
        script(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            plan = plan_in(Path(scratch))
            ray_seconds, plain_seconds = under_ray(plan), in_a_script(plan)
        record(
            f"one trial under Ray {ray_seconds:.1f} s, plain script {plain_seconds:.1f} s, "
            f"ratio {ray_seconds / plain_seconds:.3f} (target: at most 1.15)"
        )
