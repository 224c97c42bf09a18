"""ONE TRIAL: fit → evaluate → score → select → buy, ``cycles`` times.  Read this file first.

Nothing here knows where the work is done (``Workers``) or how a model looks. Each step is committed before the next one
starts, so a trial that was killed is carried on by calling it again, to the same result. Where an arm has a teacher, it
labels more images before each fit (``teaching``).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.active import images_of, start_of
from orchestrator.config import Experiment
from orchestrator.curves import mdsq
from orchestrator.identity import arm_inputs, initial_inputs, reference_inputs
from orchestrator.pool import PSEUDO, Pool, lowest
from orchestrator.store import (
    CHOSEN,
    LABELS,
    RunFolder,
    commit,
    fingerprint,
    read_json,
    read_table,
    write_table,
    write_tables,
)
from orchestrator.teaching import Lesson, Taught, teach
from orchestrator.workers import (
    Bought,
    ExplainJob,
    FitJob,
    Fitted,
    ScoreJob,
    SelectJob,
    Workers,
    fitted_once,
    ranges,
)
from tasks.data.files import Place, place, relative_uri
from tasks.data.known_labels import known_labels
from tasks.data.manifest import Manifest
from tasks.seeding import seed_of, uniforms

WRITTEN_AT_ONCE = 1 << 14  # rows of the pool


@dataclass(frozen=True)
class Cycle:
    """What one cycle came to: a row of ``cycles.parquet``."""

    index: int
    labeled: Mapping[str, int]  # images with a human label, for each task
    total: int  # images of the pool
    cost: Mapping[str, float]  # of all labels known: seconds, boxes, ...
    metrics: Mapping[str, float]
    mdsq: float
    checkpoint: str  # relative to the run folder
    best_step: int
    skipped: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    forwards: float = 0.0  # an image, when its pool was scored
    teacher: Mapping[str, Any] = field(default_factory=dict)  # its figures and counts of labels; {} = there is none


@dataclass(frozen=True)
class Trial:
    """An arm under a seed, with all that its steps need. ``experiment`` is the arm's own."""

    experiment: Experiment
    arm: str
    seed: int
    folder: RunFolder
    manifest: Manifest
    reference: Mapping[str, Any] | None  # content of reference.json; None while the reference is being made

    @property
    def denominators(self) -> Mapping[str, float] | None:
        return None if self.reference is None else self.reference["metrics"]

    @property
    def split(self) -> str:
        """The split that is reported: test where there is one, else the validation images."""
        return "test" if self.manifest.count("test") else "val"

    def amount(self, share_or_count: float) -> int:
        return images_of(share_or_count, self.manifest.count("train"))


def reference(trial: Trial, workers: Workers) -> dict[str, Any]:
    """The fully trained network of one seed: fitted on every label of the pool."""
    inputs = reference_inputs(trial.experiment, trial.manifest.fingerprint)
    folder = trial.folder.reference_fit(fingerprint(inputs), trial.seed)
    keys = trial.manifest.keys("train")
    tasks = tuple(trial.experiment.tasks)
    pool = Pool.initial(keys, tasks, len(keys), trial.seed, known_labels(trial.manifest, "train", tasks))
    alone = replace(trial, experiment=replace(trial.experiment, teacher=None))
    return _fit_once(alone, workers, folder, pool, trial.experiment.reference.steps, inputs)


def initial(trial: Trial, workers: Workers) -> dict[str, Any]:
    """Cycle 0, made once for every arm of this seed that agrees on what it depends on."""
    return _initial(trial, workers, _first_pool(trial))


def _initial(trial: Trial, workers: Workers, pool: Pool) -> dict[str, Any]:
    inputs = initial_inputs(trial.experiment, trial.manifest.fingerprint, trial.denominators)
    folder = trial.folder.initial_fit(fingerprint(inputs), trial.seed)
    train = trial.experiment.train
    return _fit_once(trial, workers, folder, pool, train.first_steps or train.steps, inputs)


def run(trial: Trial, workers: Workers) -> Iterator[Cycle]:
    """The cycles of an arm, one at a time; those that are committed are read, not made."""
    experiment = trial.experiment
    assert trial.denominators is not None
    inputs = arm_inputs(experiment, trial.manifest.fingerprint, trial.denominators)
    pool, record, labels, steps = _first_pool(trial), None, list[str](), experiment.train.steps
    for index in range(experiment.active.cycles + 1):
        folder = trial.folder.cycle(trial.arm, trial.seed, index)
        marker = folder / "cycle.json"
        if not marker.is_file():
            made = (
                _initial(trial, workers, pool)
                if record is None
                else _fit(trial, workers, Round(index, folder, pool, steps, inputs, tuple(labels), record))
            )
            commit(marker, {"inputs": inputs, **_record(trial, workers, pool, made, tuple(labels))})
        record = read_json(marker)
        checkpoint = str(trial.folder.root / record["checkpoint"])
        last = index == experiment.active.cycles
        if not last and not all((folder / name).is_file() for name in ("purchase.json", "bought.parquet")):
            if not (folder / CHOSEN).is_file():
                _purchase(trial, workers, folder, pool, checkpoint, index, labels)
            if (folder / CHOSEN).is_file():  # people label it: see ``people.accept``
                yield _cycle(index, record, {})
                return
        purchase = {} if last else read_json(folder / "purchase.json")
        if not last:
            pool = pool.buy(_bought(folder), index + 1)
            labels += [str(path) for path in (folder / LABELS,) if path.is_file()]
        yield _cycle(index, record, purchase)


def finished(folder: RunFolder, arm: str, seed: int) -> list[Cycle]:
    """The committed cycles of a trial."""
    found: list[Cycle] = []
    while (folder_of := folder.cycle(arm, seed, len(found))).joinpath("cycle.json").is_file():
        paid = folder_of / "purchase.json"
        found.append(_cycle(len(found), read_json(folder_of / "cycle.json"), read_json(paid) if paid.is_file() else {}))
    return found


def waiting(folder: RunFolder, arm: str, seed: int) -> tuple[int, int] | None:
    """The cycle whose choice people have not labeled yet, and how many images it has; None where none waits."""
    index = 0
    while (place := folder.cycle(arm, seed, index)).joinpath("cycle.json").is_file():
        if (place / CHOSEN).is_file() and not (place / "purchase.json").is_file():
            return index, int(read_json(place / CHOSEN)["images"])
        index += 1
    return None


def is_complete(folder: RunFolder, arm: str, seed: int, cycles: int) -> bool:
    """Whether a trial has committed every fit and every purchase."""
    places = [folder.cycle(arm, seed, index) for index in range(cycles + 1)]
    fits = all((place / "cycle.json").is_file() for place in places)
    return fits and all((place / "purchase.json").is_file() for place in places[:-1])


# ---- steps ----------------------------------------------------------------------------------------------------------


def _fit_once(
    trial: Trial, workers: Workers, folder: Place, pool: Pool, steps: int, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """A fit that several arms share, behind its own marker."""
    marker = folder / "fit.json"
    if not marker.is_file():
        commit(marker, {"inputs": inputs, **_fit(trial, workers, Round(0, folder, pool, steps, inputs))})
    return dict(read_json(marker))


@dataclass(frozen=True)
class Round:
    """What the fit of one cycle starts from."""

    index: int
    folder: Place
    pool: Pool
    steps: int
    inputs: Mapping[str, Any]  # what it is made from
    labels: tuple[str, ...] = ()  # files of labels that people gave
    last: Mapping[str, Any] | None = None  # what the last cycle came to


def _fit(trial: Trial, workers: Workers, of: Round) -> dict[str, Any]:
    """The fit of a cycle on what people, and a teacher if there is one, have labeled."""
    seconds: dict[str, float] = {}
    last = of.last if trial.experiment.active.warm_start else None  # None: fresh weights
    taught = _taught(trial, workers, of, last)
    with _clock(seconds, "fit"):
        fitted = fitted_once(workers, _job(trial, of, taught, _checkpoint(trial, last)))
    with _clock(seconds, "evaluate"):
        metrics = workers.evaluate(fitted.checkpoint, trial.split)
    return {**_made(trial, fitted, metrics, seconds), **taught.told}


def _taught(trial: Trial, workers: Workers, of: Round, last: Mapping[str, Any] | None) -> Taught:
    """The pool with what a teacher has labeled of it; as it is where the arm has none."""
    experiment = trial.experiment
    if experiment.teacher is None:
        return Taught(of.pool, of.labels)
    lesson = Lesson(
        experiment.teacher, experiment.model, experiment.train, steps=of.steps, folder=of.folder / "teacher",
        root=trial.folder.root, manifest=trial.manifest, labels=of.labels, seed=trial.seed, cycle=of.index,
        start=_checkpoint(trial, last and last["teacher"]), denominators=trial.denominators, split=trial.split,
        inputs=of.inputs, shard=experiment.cluster.shard,
    )  # fmt: skip
    return teach(lesson, workers, of.pool)


def _checkpoint(trial: Trial, made: Mapping[str, Any] | None) -> str | None:
    return None if made is None else str(trial.folder.root / made["checkpoint"])


def _purchase(
    trial: Trial, workers: Workers, folder: Place, pool: Pool, checkpoint: str, index: int, labels: Sequence[str]
) -> None:
    """Score the pool, choose within the budget, draw why, and commit what was bought; or chosen, where people label."""
    experiment, seconds = trial.experiment, dict[str, float]()
    budget = trial.amount(experiment.active.budget.amount)
    name = experiment.strategy.name
    bought: list[Bought] = []
    forwards = 0.0
    if budget and not pool.labeled.all():
        with _clock(seconds, "score"):
            job = ScoreJob(
                folder=str(folder / "scores"), checkpoint=checkpoint, strategies={name: experiment.strategy},
                seed=trial.seed, cycle=index, labeled=pool.labeled,
                inputs=fingerprint([read_json(folder / "cycle.json")["inputs"], index, experiment.cluster.shard]),
                left_out=_left_out(trial, pool, index, budget),
            )  # fmt: skip
            forwards = workers.score(job).forwards
        with _clock(seconds, "select"):
            known = Manifest(trial.manifest.path, [place(path) for path in labels]) if labels else trial.manifest
            counts = known.object_counts(_rows(trial)[pool.labeled])[0]
            chosen = workers.select(
                SelectJob(job.folder, name, experiment.strategy, budget, trial.seed, index, pool.labeled, counts)
            )
            bought = [replace(one, tasks=pool.unknown(one.key, one.tasks)) for one in chosen]
        with _clock(seconds, "explain"):
            shown = bought[: experiment.gallery.picks]
            if shown:
                gallery = str(folder / "gallery")
                workers.explain(ExplainJob(gallery, checkpoint, experiment.strategy, shown, trial.seed, index))
    by_people = bool(bought) and experiment.active.oracle == "label_studio"
    write_table(folder / ("chosen.parquet" if by_people else "bought.parquet"), bought_table(bought))
    marker = CHOSEN if by_people else "purchase.json"
    commit(folder / marker, {"seconds": seconds, "forwards": forwards, "images": len(bought)})


def _left_out(trial: Trial, pool: Pool, index: int, budget: int) -> NDArray[np.bool_] | None:
    """Unlabeled images ``[N]`` that this cycle does not score: all but a subset that is drawn by key."""
    subset = trial.experiment.active.pool_subset
    if subset is None:
        return None
    left_out = ~pool.labeled
    rows = np.flatnonzero(left_out)
    drawn = uniforms(pool.keys[rows], seed_of(trial.seed, "pool subset"), index)
    left_out[rows[lowest(drawn, max(subset, budget))]] = False
    return left_out


def _job(trial: Trial, of: Round, taught: Taught, start: str | None) -> FitJob:
    pool, teacher = taught.pool, trial.experiment.teacher
    known = pool.has.any(1)
    return FitJob(
        folder=str(of.folder), train=trial.experiment.train, rows=_rows(trial)[known], has=pool.has[known],
        steps=of.steps, seed=trial.seed, cycle=of.index, start=start, denominators=trial.denominators,
        labels=taught.labels, pseudo=pool.source[known] == PSEUDO, weight=1.0 if teacher is None else teacher.weight,
    )  # fmt: skip


# ---- records --------------------------------------------------------------------------------------------------------


def _made(trial: Trial, fitted: Fitted, metrics: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "checkpoint": relative_uri(place(fitted.checkpoint), trial.folder.root),
        "best_step": fitted.best_step,
        "skipped": fitted.skipped,
        "validation": dict(fitted.validation),
        "metrics": dict(metrics),
        "seconds": dict(seconds),
    }


def _record(
    trial: Trial, workers: Workers, pool: Pool, made: Mapping[str, Any], labels: tuple[str, ...]
) -> dict[str, Any]:
    assert trial.reference is not None
    known = pool.human.any(1)
    mine = {m: full for m, full in trial.reference["metrics"].items() if m.split(".")[0] in trial.experiment.tasks}
    kept = ("checkpoint", "best_step", "skipped", "validation", "metrics", "seconds", "teacher")
    return {
        **{name: made[name] for name in kept if name in made},
        "labeled": pool.counts(),
        "total": len(pool.keys),
        "cost": workers.label_cost(_rows(trial)[known], pool.human[known], labels),
        "mdsq": mdsq(made["metrics"], mine, trial.reference["higher_is_better"]),
    }


def _cycle(index: int, record: Mapping[str, Any], purchase: Mapping[str, Any]) -> Cycle:
    return Cycle(
        index=index,
        labeled=record["labeled"],
        total=record["total"],
        cost=record["cost"],
        metrics=record["metrics"],
        mdsq=record["mdsq"],
        checkpoint=record["checkpoint"],
        best_step=record["best_step"],
        skipped=record["skipped"],
        seconds={**record.get("teacher", {}).get("seconds", {}), **record["seconds"], **purchase.get("seconds", {})},
        forwards=purchase.get("forwards", 0.0),
        teacher=record.get("teacher", {}),
    )


def bought_table(bought: list[Bought]) -> pa.Table:
    parts = sorted({name for b in bought for name in b.parts})
    return pa.table(
        {
            "id": pa.array([b.id for b in bought], pa.string()),
            "key": pa.array([b.key for b in bought], pa.uint64()),
            "tasks": pa.array([list(b.tasks) for b in bought], pa.list_(pa.string())),
            "value": pa.array([b.value for b in bought], pa.float64()),
            **{name: pa.array([b.parts.get(name) for b in bought], pa.float64()) for name in parts},
        }
    )


def _bought(folder: Place) -> dict[int, list[str]]:
    table = read_table(folder / "bought.parquet")
    return dict(zip(table["key"].to_pylist(), table["tasks"].to_pylist(), strict=True))


def _first_pool(trial: Trial) -> Pool:
    """The citable pool of a seed, written once: the same for every arm, but for those with a number for each task."""
    tasks, initial = tuple(trial.experiment.tasks), trial.experiment.active.initial
    counts = start_of(initial, tasks, trial.manifest.count("train"))
    known = known_labels(trial.manifest, "train", tasks)
    pool = Pool.initial(trial.manifest.keys("train"), tasks, counts, trial.seed, known)
    is_own, folder = isinstance(initial, Mapping), trial.folder
    path = folder.own_pool(trial.arm, trial.seed) if is_own else folder.pool(trial.seed)
    if not path.is_file():
        write_tables(path, _named(trial, pool))
    return pool


def _named(trial: Trial, pool: Pool) -> Iterator[pa.Table]:
    """The ledger with the ids of its images, some rows at a time."""
    rows = _rows(trial)
    for start, stop in ranges(len(rows), WRITTEN_AT_ONCE) or [(0, 0)]:
        ids = trial.manifest.take(rows[start:stop], ["id"])["id"]
        yield pool.table(start, stop).add_column(0, "id", ids)


def _rows(trial: Trial) -> NDArray[np.int64]:
    """Manifest rows of the pool, in the order of its keys."""
    return trial.manifest.rows("train")


@contextmanager
def _clock(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = round(time.perf_counter() - start, 3)
