"""mtal run --dry-run: what an experiment would do, what it asks for, and how long it would take."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from rich.table import Table

from orchestrator.components import make
from orchestrator.config import Experiment
from orchestrator.display import Display
from orchestrator.errors import ConfigError
from orchestrator.measuring import Invented, measured
from orchestrator.plan_page import plan_lines, plan_table
from orchestrator.planning import Outlook, Speed, foreseen, room
from orchestrator.running import Told, check, classes_of


def foresee(
    experiment: Experiment,
    address: str,
    nodes: Sequence[Mapping[str, float]],
    images: Sequence[str],
    measure: bool,
    step_seconds: float | None,
    image_seconds: float | None,
    display: Display,
) -> Iterator[Table]:
    """The tables to print; no file is written.

    ``nodes``: CPU and GPU of each node of a cluster that runs; without any, this machine is counted.
    """
    if (step_seconds is None) != (image_seconds is None):
        raise ConfigError("--step-seconds and --image-seconds: one is missing; expected both: add it, or use --measure")
    check(experiment)
    plan, source = foreseen(experiment, images)
    yield plan_table(experiment.name, plan)
    alone = address == "none"  # everything in one process, one trial after another
    workers = 1 if alone else experiment.cluster.workers_per_trial
    at_a_time = 1 if alone else room(nodes or [_here()], experiment.cluster)
    speed = None
    if step_seconds is not None and image_seconds is not None:
        speed = Speed(step_seconds, image_seconds, f"{step_seconds:g} s a step, {image_seconds:g} s an image, as typed")
    elif measure:
        with display.shown("timing a few steps and passes of the network"):
            speed = _measured(experiment, plan, 1 if alone else experiment.train.processes, display.update)
    yield plan_lines(plan, source, experiment.cluster, _place(address), at_a_time, workers, speed)


def _here() -> Mapping[str, float]:
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def _place(address: str) -> str:
    if address == "none":
        return "this machine, in one process (--address none)"
    if address == "local":
        return f"this machine ({os.cpu_count()} CPU, {torch.cuda.device_count()} GPU; --address is local)"
    return f"the cluster as it stands (--address {address})"


def _measured(experiment: Experiment, plan: Outlook, processes: int, told: Told) -> Speed:
    needs, classes, tasks = experiment.cluster, classes_of(experiment.data), tuple(experiment.tasks)
    model = make("model", experiment.model, "model", classes, tasks)
    weighting = make("weighting", experiment.weighting, "weighting")
    threads = min(needs.cpus_per_worker, os.cpu_count() or 1)
    invented = Invented(plan.size, classes, tasks)
    return measured(
        model, weighting, experiment.train, invented, processes=processes, batch=needs.score_batch, threads=threads,
        wants_gpu=needs.gpus_per_worker > 0, progress=partial(told, experiment.model.name),
    )  # fmt: skip
