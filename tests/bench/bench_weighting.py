"""What each weighting of the losses costs a training step, against the plain sum: python tests/bench/bench_weighting.py

    python tests/bench/bench_weighting.py [--steps 60] [--only pickup] [--record]

Whole steps of one thread (forward, weighing, backward, optimiser) in CPU time, on the networks of configs/pickup.yaml
(two losses) and configs/demo.yaml (four), with batches of invented images. In each round every weighting takes one
step with a network of its own, beginning with another one each time, so that a busy machine slows all alike; the
figure is the median of the differences to ``equal`` in the same round. Where a network lies in memory makes it faster
or slower by some per cent for as long as it lives, so that a third of the steps each are done by networks made anew.
``equal again`` is the noise. The rate is so low that all networks stay what they are. Target: at most 3 % or 2 ms,
whichever is more, for all but gradnorm.
"""

import argparse
import os
import sys
from pathlib import Path
from time import process_time

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from orchestrator.checkpoints import build
from orchestrator.components import Component, make
from orchestrator.config import Experiment, load
from orchestrator.effective_batch import Part
from orchestrator.fitting import take_step
from orchestrator.measuring import Invented
from orchestrator.running import classes_of
from orchestrator.training_group import Group
from orchestrator.weighing import Weighing
from tasks import WEIGHTINGS
from tasks.base import sensors_of
from tasks.types import Batch
from tests.bench.results import LOAD, record

WARM, RATE, ANEW = 3, 1e-9, 3
FREE = {"gradnorm"}  # of the target: it takes one more pass through each head
EQUAL, AGAIN = "equal", "equal again"


class Racer:
    """A network that learns under one weighting."""

    def __init__(self, experiment: Experiment, name: str, steps: int) -> None:
        torch.manual_seed(0)
        self.train = experiment.train
        self.model = build(experiment.model, classes_of(experiment.data), tuple(experiment.tasks))
        weighting = make("weighting", Component(name), "weighting")
        self.optimizer = torch.optim.Adam([*self.model.parameters(), *weighting.parameters()], lr=RATE, fused=True)
        self.weighing = Weighing(weighting, self.optimizer, torch.device("cpu"), steps, 0)

    def seconds(self, parts: list[Part], step: int) -> float:
        """CPU time of one step."""
        start = process_time()
        done = take_step(self.model, self.weighing, self.optimizer, parts, self.train, (step, step // 10), Group())
        took = process_time() - start
        assert done, "the loss was not finite"
        return took


def raced(experiment: Experiment, steps: int) -> dict[str, np.ndarray]:
    """Seconds ``[steps]`` of each weighting."""
    names = [EQUAL, AGAIN, *(name for name in WEIGHTINGS if name not in (EQUAL, "fixed"))]  # fixed: needs factors
    each = [
        _raced(experiment, steps // ANEW, np.random.default_rng(i).permutation(names).tolist()) for i in range(ANEW)
    ]
    return {name: np.concatenate([one[name] for one in each]) for name in names}


def _raced(experiment: Experiment, steps: int, names: list[str]) -> dict[str, np.ndarray]:
    """The same of networks that are made in this order."""
    count = WARM + steps
    racers = {name: Racer(experiment, EQUAL if name == AGAIN else name, count) for name in names}
    model = racers[EQUAL].model
    size, tasks = tuple(experiment.data.options["size"]), tuple(experiment.tasks)
    images = Invented(size, classes_of(experiment.data), tasks, sensors_of(model))
    batch = Batch.of([images[row] for row in range(experiment.train.batch)], tasks)
    found = {name: np.zeros(count) for name in names}
    for step in range(count):
        turn = step % len(names)
        for name in (*names[turn:], *names[:turn]):
            found[name][step] = racers[name].seconds([Part(step, batch)], step)
    return {name: seconds[WARM:] for name, seconds in found.items()}


def told(config: str, steps: int) -> str:
    """One line of figures, and a table on the way."""
    found = raced(load(config), steps)
    plain = 1e3 * float(np.median(found[EQUAL]))
    limit = max(0.03 * plain, 2.0)
    print(f"\n{config}: a step with equal takes {plain:.1f} ms; the target is {limit:.2f} ms more")
    words = []
    for name, seconds in found.items():
        if name == EQUAL:
            continue
        more = 1e3 * float(np.median(seconds - found[EQUAL]))
        verdict = "" if name in FREE or more <= limit else " MISSED"
        print(f"  {name:14s} {more:+8.3f} ms  {100 * more / plain:+7.2f} %{verdict}")
        words.append(f"{name} {more:+.2f}{verdict}")
    return f"{config} (equal {plain:.1f} ms a step; target {limit:.2f}): {', '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=("pickup", "demo"))
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [told(config, asked.steps) for config in ("pickup", "demo") if asked.only in (None, config)]
    print(f"load {LOAD:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    if asked.record:
        record(f"CPU ms that a weighting adds to a training step, median of {asked.steps}: {'; '.join(lines)}")


if __name__ == "__main__":
    main()
