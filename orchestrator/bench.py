"""How fast is it here? ``mtal bench``: scoring by number of workers and size of shards, and steps of training.

All combinations are measured in turns, on the same workers: a run of two uses the first two of all that were started.
So what changes on the machine meanwhile falls on each of them, and the medians can be compared. Images are read and
decoded in every run (nothing is kept in a worker's memory), but the system's own cache of files is warm.
"""

import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator import here, tuning
from orchestrator.checkpoints import Card, build, load_model, save_model
from orchestrator.components import Component, make
from orchestrator.config import Cluster, Train, arm
from orchestrator.display import Display
from orchestrator.errors import ConfigError
from orchestrator.meter import Meter
from orchestrator.planning import SPLITS, outlook
from orchestrator.pool_scoring import check_manifest, check_strategies, named
from orchestrator.room import places
from orchestrator.scoring import Plan as ScorePlan
from orchestrator.scoring import needs_images
from orchestrator.store import RunFolder
from orchestrator.throughput import Bench, Run, Site, earlier
from orchestrator.trials import Plan, Unit
from orchestrator.workers import Bought, FitJob, Fitted, Scored, ScoreJob, SelectJob, Setup
from tasks.data.files import Place, place, remove_tree
from tasks.data.manifest import Manifest
from tasks.seeding import seed_of

STUB = "orchestrator.stub_network:StubNetwork"


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    images: int = 256  # of the pool that a run scores; fewer where it has fewer
    workers: tuple[int, ...] = ()  # numbers of workers; none: 1, 2, 4 and so on, up to all that the cluster holds
    shards: tuple[int, ...] = ()  # sizes in images; none: one batch and four
    runs: int = 3  # of each combination; the median counts
    steps: int = 5  # of training, timed in each run; 0: none
    strategies: tuple[str, ...] = ()  # names or YAML; none: that of the first arm that looks at images
    checkpoint: str | None = None  # None: fresh weights
    stub_ms: float | None = None  # milliseconds of CPU an image, in place of a network

    def __post_init__(self) -> None:
        if self.stub_ms is not None and self.checkpoint is not None:
            raise ConfigError("--stub-ms: a stub has no checkpoint; expected one of the two: leave the other out")


def numbers(option: str, text: str) -> tuple[int, ...]:
    """The numbers of "1,2,4"; ConfigError where they are none, or come twice."""
    words = [word.strip() for word in text.split(",")] if text else []
    found = tuple(int(word) for word in words if word.isdecimal() and int(word) > 0)
    if len(found) < len(words) or len(set(found)) < len(found):
        raise ConfigError(f"{option} {text}: expected whole numbers above 0, each once, such as 1,2,4: correct it")
    return found


class Benched(Protocol):
    """Workers of which some can be left out, and each can be asked."""

    def fit(self, job: FitJob) -> Fitted: ...

    def score(self, job: ScoreJob) -> Scored: ...

    def select(self, job: SelectJob) -> list[Bought]: ...

    def turn_to(self, setup: Setup, unit: str) -> None: ...

    def use(self, count: int) -> None: ...

    def each(self, method: str, *arguments: Any) -> list[Any]: ...


def bench(plan: Plan, asked: Asked, address: str, out: Place, display: Display) -> Bench:
    """Measure on the cluster at ``address`` ("none": in this process). ``out`` is a folder that all nodes see."""
    earlier(out)  # refused now, not after minutes
    manifest = Manifest.open(place(plan.manifest))
    images = min(asked.images, manifest.count("train"))
    strategies, load = _strategies(plan, asked), os.getloadavg()[0]
    scratch = out / f".work-{uuid4().hex[:8]}"
    with RunFolder(out).locked(), _opened(address, plan.experiment.cluster, asked.workers) as (site, counts):
        try:
            setup, checkpoint = _network(plan, asked, manifest, strategies, scratch)
            shards = asked.shards or _shards(setup.batch, images // max(counts))
            job = ScoreJob(str(scratch), checkpoint, strategies, 0, 0, np.zeros(images, bool))
            start = time.perf_counter()
            with _workers(address, setup, display, plan.experiment.cluster, max(counts)) as workers:
                workers.each("begin", checkpoint)
                started = time.perf_counter() - start
                runs = _runs(workers, setup, job, manifest.count("train"), counts, shards, asked.runs, display)
                steps: dict[int, float] = {}
                if asked.steps and asked.stub_ms is None:
                    fit = _fit_job(plan, manifest.rows("train")[:images], setup, str(scratch), asked.steps + 1)
                    whole = plan.experiment.cluster.gpus_per_worker % 1 == 0  # others cannot train together
                    steps = _step_seconds(
                        workers, setup, fit, checkpoint, counts if whole else (1,), asked.runs, display
                    )
        finally:
            remove_tree(scratch)
    return Bench(
        plan.experiment.name, site, load, setup, manifest.size, images, strategies, runs, steps, started,
        Meter().reading(), _work(plan, manifest),
    )  # fmt: skip


# ---- what is measured -----------------------------------------------------------------------------------------------


def _strategies(plan: Plan, asked: Asked) -> dict[str, Component]:
    """The strategies that score together, by the name of their columns."""
    if asked.strategies:
        return named(asked.strategies)
    if asked.stub_ms is not None:  # one pass an image, and next to no arithmetic
        task = "seg" if "segmentation" in plan.experiment.tasks else "det"
        return {"entropy": Component("entropy", {"task": task})}
    own = [arm(plan.experiment, name).strategy for name in plan.experiment.arms]
    found = next((one for one in own if needs_images(ScorePlan({"": make("strategy", one, "arms")}, 0, 0))), own[0])
    return {found.name.split(":")[-1]: found}


def _network(
    plan: Plan, asked: Asked, manifest: Manifest, strategies: Mapping[str, Component], scratch: Place
) -> tuple[Setup, str]:
    """What the workers are built from, and the checkpoint that they load; ConfigError where it does not fit."""
    setup = replace(plan.setup(Unit("arm", next(iter(plan.experiment.arms)), 0)), cache=0)
    tasks = tuple(setup.tasks)
    if asked.checkpoint is not None:
        model, card = load_model(place(asked.checkpoint))
        check_manifest(manifest, card, getattr(model, "stride", None))
        setup = replace(setup, model=card.model, tasks={task: setup.tasks.get(task, {}) for task in card.tasks})
        checkpoint = str(place(asked.checkpoint).absolute())
    else:
        if asked.stub_ms is not None:
            setup = replace(setup, model=Component(STUB, {"ms": asked.stub_ms}))
        torch.manual_seed(seed_of(0, "weights"))
        model = build(setup.model, manifest.classes, tasks)
        checkpoint = str(scratch / "model.pt")
    check_strategies(dict(strategies), model, 0)
    if asked.checkpoint is None:
        save_model(scratch / "model.pt", model, Card(setup.model, tasks, manifest.classes, manifest.size, 0))
    return setup, checkpoint


def _fit_job(plan: Plan, rows: NDArray[np.int64], setup: Setup, folder: str, steps: int) -> FitJob:
    """Some steps of the experiment's own training, without a look at validation images."""
    train = replace(plan.experiment.train, evaluations=1, validate_every=None, checkpoint_steps=steps)
    return FitJob(folder, train, rows, np.ones((len(rows), len(setup.tasks)), bool), steps, 0, 0)


def _shards(batch: int, most: int) -> tuple[int, ...]:
    """One batch and four, where every worker gets at least one."""
    return tuple(size for size in (batch, 4 * batch) if size <= most) or (max(most, 1),)


def _work(plan: Plan, manifest: Manifest) -> tuple[int, int]:
    """Training steps, and images that a network scores, of the whole experiment."""
    images = {split: manifest.count(split) for split in SPLITS}
    works = outlook(plan.experiment, images, manifest.size, manifest.classes, 0).works
    scored = sum(scoring.images for one in works for scoring in one.scorings if scoring.most)
    return sum(one.steps for one in works), scored


# ---- where ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(address: str, needs: Cluster, counts: Sequence[int]) -> Iterator[tuple[Site, tuple[int, ...]]]:
    """The cluster for the time of the block, and the numbers of workers to try; ConfigError where they do not fit."""
    if address == "none":
        yield Site(address, ({"CPU": float(os.cpu_count() or 1)},), needs), _fitting(counts, 1)
        return
    with tuning.cluster(address):
        yield Site(address, tuple(tuning.nodes()), needs), _fitting(counts, places(tuning.nodes(), needs))


def _fitting(counts: Sequence[int], room: int) -> tuple[int, ...]:
    if not counts:
        return tuple(sorted({1, *(2**k for k in range(1, room.bit_length()) if 2**k <= room), max(room, 1)}))
    if max(counts) > room:
        raise ConfigError(
            f"--workers {max(counts)}: there is room for {room} at a time; expected at most as many: lower it, or use "
            "a larger cluster"
        )
    return tuple(sorted(counts))


@contextmanager
def _workers(address: str, setup: Setup, display: Display, needs: Cluster, count: int) -> Iterator[Benched]:
    if address == "none":
        with here.pool_workers(setup, display, "this process") as one:
            yield one
    else:
        with tuning.pool_workers(setup, display, "workers", replace(needs, workers_per_trial=count)) as many:
            yield many


# ---- measuring ------------------------------------------------------------------------------------------------------


def _runs(
    workers: Benched,
    setup: Setup,
    job: ScoreJob,
    pool: int,
    counts: Sequence[int],
    shards: Sequence[int],
    times: int,
    display: Display,
) -> list[Run]:
    """Every combination ``times`` times, in turns; one round before, which is not counted."""
    todo = [(count, shard) for shard in shards for count in counts]
    found: list[Run] = []
    for turn in range(times + 1):
        for index, (count, shard) in enumerate(todo):
            workers.turn_to(replace(setup, shard=shard), f"{count} x {shard}")
            run = _run(workers, job, pool, count, shard)
            display.update("scoring", f"round {turn + 1} of {times + 1}", index + 1, len(todo))
            found += [run] if turn else []
    return found


def _run(workers: Benched, job: ScoreJob, pool: int, count: int, shard: int) -> Run:
    """Score and choose once."""
    images = len(job.labeled)
    covered = min(-(-images // shard) * shard, pool)  # whole shards, as the workers cut them
    labeled, left_out = np.zeros(covered, bool), np.arange(covered) >= images
    folder = f"{job.folder}/scores-{uuid4().hex[:8]}"
    job = replace(job, folder=folder, labeled=labeled, left_out=left_out)
    workers.use(count)
    workers.each("begin", job.checkpoint)
    start = time.perf_counter()
    workers.score(job)
    scored = time.perf_counter()
    readings = workers.each("measured")
    chosen: list[tuple[str, ...]] = []
    asked = time.perf_counter()
    for name, strategy in job.strategies.items():
        select = SelectJob(folder, name, strategy, max(images // 10, 1), 0, 0, labeled)
        chosen.append(tuple(one.id for one in workers.select(select)))
    done = time.perf_counter()
    remove_tree(place(folder))
    return Run(count, shard, images, scored - start, done - asked, readings, len(pickle.dumps(job)), tuple(chosen))


def _step_seconds(
    workers: Benched,
    setup: Setup,
    job: FitJob,
    checkpoint: str,
    counts: Sequence[int],
    times: int,
    display: Display,
) -> dict[int, float]:
    """The median seconds of a training step by number of processes, of those that can share a batch."""
    trains = {count: train for count in counts if (train := _shared(job.train, count)) is not None}
    taken: dict[int, list[float]] = {count: [] for count in trains}
    for turn in range(times):
        for index, (count, train) in enumerate(trains.items()):
            workers.turn_to(setup, f"{count} x training")
            workers.use(count)
            workers.each("begin", checkpoint)
            workers.fit(replace(job, train=train, folder=f"{job.folder}/fit-{uuid4().hex[:8]}"))
            taken[count] += workers.each("measured")[0].steps
            display.update("training", f"round {turn + 1} of {times}", index + 1, len(trains))
    return {count: median(seconds) for count, seconds in taken.items() if seconds}


def _shared(train: Train, count: int) -> Train | None:
    """The same training by so many processes; None where they cannot share a batch equally."""
    parts = count * train.accumulate
    return replace(train, processes=count) if train.batch % parts == 0 else None
