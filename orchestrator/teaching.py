"""What a teacher does before a cycle's fit: it learns from people's labels, and labels what they have not.

Its network is the arm's own with more inputs. Everything lies in a folder of its own (``teacher/`` in that of the fit)
and each step is committed before the next one starts: the fit, every shard of labels, all of them. What people have
labeled stays theirs: a pseudo-label is made only where the ledger knows no human one, and is trained on, never counted.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.components import Component, make
from orchestrator.config import Train
from orchestrator.errors import ConfigError, RunError
from orchestrator.pool import Pool
from orchestrator.store import commit, fingerprint, read_json, read_table, shard_path, write_table
from orchestrator.teacher import Teacher
from orchestrator.workers import FitJob, PseudoJob, Workers, fitted_once, ranges
from tasks import LABEL_INPUTS, SENSORS
from tasks.data.depth_png import MADE, depth_uri
from tasks.data.files import Place, place, relative_uri
from tasks.data.manifest import Manifest, Record, write_manifest

AT_ONCE = 4096  # records in memory


@dataclass(frozen=True)
class Lesson:
    """All that a teacher's steps in one cycle need."""

    teacher: Teacher
    model: Component  # of the arm
    train: Train
    steps: int  # of a fit, where the teacher does not say
    folder: Place  # gets all that is made
    root: Place  # of the run
    manifest: Manifest
    labels: tuple[str, ...]  # files of labels that people gave
    seed: int
    cycle: int
    start: str | None  # the teacher's checkpoint to start from; None = fresh weights
    denominators: Mapping[str, float] | None
    split: str  # that figures are reported on
    inputs: Mapping[str, Any]  # what the cycle is made from
    shard: int  # images


@dataclass(frozen=True)
class Taught:
    """The pool as it is trained on."""

    pool: Pool
    labels: tuple[str, ...]  # files of labels, the teacher's last
    told: Mapping[str, Any] = field(default_factory=dict)  # what cycle.json says of the teacher; {} = there is none


def teach(lesson: Lesson, workers: Workers, pool: Pool) -> Taught:
    """The pool with the pseudo-labels of this cycle, which are made where they are not there."""
    wanted = wanted_labels(lesson, pool)
    mark = fingerprint([lesson.inputs, lesson.cycle, hashlib.sha256(np.packbits(wanted).tobytes()).hexdigest()])
    marker, folder = lesson.folder / "pseudo.json", lesson.folder
    if not marker.is_file():
        commit(marker, {"mark": mark, **_labeled(lesson, workers, pool, wanted, mark)})
    made = read_json(marker)
    if made["mark"] != mark:
        raise RunError(
            f"{marker}: was made from other labels or settings; expected those of this run: delete {folder}, then type "
            "the same command again"
        )
    kept = read_table(folder / "pseudo.parquet", ["key", "task"])
    keys = {task: kept.filter(pc.equal(kept["task"], task))["key"].to_numpy() for task in lesson.teacher.tasks}
    labels = (*lesson.labels, str(folder / "labels.parquet")) if len(kept) else lesson.labels
    told = {name: made[name] for name in ("checkpoint", "metrics", "asked", "made", "coverage", "seconds")}
    return Taught(pool.pretend(keys, lesson.cycle), labels, {"teacher": told})


def wanted_labels(lesson: Lesson, pool: Pool) -> NDArray[np.bool_]:
    """``[N, L]``: the labels that the teacher is asked for: people gave none, and what it is shown is there."""
    columns = [pool.tasks.index(task) for task in lesson.teacher.tasks]
    return np.asarray(~pool.human[:, columns] & _shown(lesson, pool)[:, None])


def _shown(lesson: Lesson, pool: Pool) -> NDArray[np.bool_]:
    """``[N]``: the images for which all that the teacher is shown is there: sensors, and labels that people gave."""
    teacher = lesson.teacher
    there: NDArray[np.bool_] = np.all(pool.human[:, [pool.tasks.index(task) for task in teacher.reads]], axis=1)
    if teacher.sensors:
        rows = lesson.manifest.rows("train")
        for start, stop in ranges(len(rows), AT_ONCE * 16):
            part = lesson.manifest.take(rows[start:stop], list(teacher.sensors))
            for sensor in teacher.sensors:
                there[start:stop] &= part[sensor].is_valid().to_numpy(zero_copy_only=False)
    return there


def _labeled(lesson: Lesson, workers: Workers, pool: Pool, wanted: NDArray[np.bool_], mark: str) -> dict[str, Any]:
    """Fit the teacher, measure it, let it label, and gather what it has labeled; what there is to say of it."""
    folder, teacher, clock = lesson.folder, lesson.teacher, perf_counter()
    fitted = fitted_once(workers, _fit_job(lesson, pool))
    metrics = workers.evaluate(fitted.checkpoint, lesson.split)
    learned = perf_counter()
    workers.pseudo(
        PseudoJob(
            folder=str(folder / "labels"), checkpoint=fitted.checkpoint, tasks=teacher.tasks, wanted=wanted,
            threshold=teacher.threshold, mirrored=teacher.is_mirrored, source=f"pseudo:{mark}",
            inputs=fingerprint([mark, lesson.shard]), labels=lesson.labels,
        )
    )  # fmt: skip
    shards = [shard_path(folder / "labels", i) for i in range(len(ranges(len(wanted), lesson.shard)))]
    rows = pa.concat_tables([read_table(path).replace_schema_metadata(None) for path in shards])
    kept = rows.filter(rows["file"].is_valid())
    write_table(folder / "pseudo.parquet", kept)
    if len(kept):
        manifest = Manifest(lesson.manifest.path, [place(path) for path in lesson.labels])
        write_manifest(
            folder / "labels.parquet", _records(manifest, kept, folder / "labels"), manifest.classes, manifest.lut,
            manifest.size,
        )  # fmt: skip
    return {
        "checkpoint": relative_uri(place(fitted.checkpoint), lesson.root),
        "metrics": dict(metrics),
        "seconds": {"teach": round(learned - clock, 3), "label": round(perf_counter() - learned, 3)},
        **_counts(teacher.tasks, rows),
    }


def _counts(tasks: Sequence[str], rows: pa.Table) -> dict[str, dict[str, float]]:
    """For each task: the images that were asked for, those that got a label, and the mean share of labeled pixels."""
    found: dict[str, dict[str, float]] = {"asked": {}, "made": {}, "coverage": {}}
    for task in tasks:
        mine = rows.filter(pc.equal(rows["task"], task))
        found["asked"][task] = len(mine)
        found["made"][task] = len(mine) - mine["file"].null_count
        found["coverage"][task] = float(np.mean(mine["coverage"].to_numpy())) if len(mine) else 0.0
    return found


def _fit_job(lesson: Lesson, pool: Pool) -> FitJob:
    """The teacher's fit: on images with people's labels of what it labels, and of what it is shown."""
    teacher = lesson.teacher
    columns = [pool.tasks.index(task) for task in teacher.tasks]
    known = pool.human[:, columns].any(1) & _shown(lesson, pool)
    if not known.any():
        raise RunError(
            f"teacher: no image has people's labels of what it labels ({', '.join(teacher.tasks)}) and what it is "
            f"shown ({', '.join(teacher.inputs)}); expected at least one to learn from: raise active.initial"
        )
    return FitJob(
        folder=str(lesson.folder), train=lesson.train, rows=lesson.manifest.rows("train")[known],
        has=pool.human[known], steps=teacher.steps or lesson.steps, seed=lesson.seed, cycle=lesson.cycle,
        start=lesson.start, denominators=lesson.denominators, labels=lesson.labels, model=teacher.of(lesson.model),
    )  # fmt: skip


def _records(manifest: Manifest, kept: pa.Table, folder: Place) -> Iterator[Record]:
    """The records of the images that got labels, with these in place of what the data set has."""
    made: dict[int, dict[str, Any]] = {}
    for key, task, file in zip(*(kept[name].to_pylist() for name in ("key", "task", "file")), strict=True):
        uri = relative_uri(folder / file, manifest.base)
        made.setdefault(key, {})[task] = depth_uri(uri, MADE) if task == "depth" else uri
    keys = np.fromiter(made, np.uint64, len(made))
    for start, stop in ranges(len(keys), AT_ONCE):
        records = manifest.records(manifest.rows_of(keys[start:stop]))
        for key, record in zip(keys[start:stop].tolist(), records, strict=True):
            yield replace(record, **made[key])


# ---- before a run ---------------------------------------------------------------------------------------------------


def check_teaching(
    teacher: Teacher, model: Component, tasks: Mapping[str, Mapping[str, Any]], classes: Any, where: str, own: Any
) -> Any:
    """The teacher's network, built; ConfigError where it cannot be, or cannot label what it is to.

    ``own`` is what the arm's own network reads: it must not be shown what the teacher makes up.
    """
    for name in teacher.tasks:
        task = make("task", Component(name, tasks[name]), f"{where}: tasks.{name}")
        if not hasattr(task, "pseudo"):
            raise ConfigError(
                f"{where}: teacher.task names {name!r}, for which no pseudo-labels can be made; expected segmentation "
                "or depth: take it out"
            )
        if name in own:
            raise ConfigError(
                f"{where}: teacher.task names {name!r}, which the arm's own network reads; expected another task, or "
                "other model.inputs: change one of them"
            )
    return make("model", teacher.of(model), f"{where}: teacher.model", classes, tuple(tasks))


def check_inputs(inputs: Sequence[str], tasks: Sequence[str], buys: bool, where: str, model: str) -> None:
    """ConfigError where a network reads, beside the image, what there is not, or what is not known when it is used."""
    for name in inputs:
        if name not in (*SENSORS, *LABEL_INPUTS):
            raise ConfigError(
                f"{where}: the model {model!r} reads {name!r}, which no data set holds; expected rgb and "
                f"{', '.join((*SENSORS, *LABEL_INPUTS))} among its inputs: choose other inputs"
            )
        if name in LABEL_INPUTS and name not in tasks:
            raise ConfigError(
                f"{where}: the model {model!r} reads the labels of {name!r}, which is no task of the arm; expected it "
                "among the tasks: add it"
            )
        if name in LABEL_INPUTS and buys:
            raise ConfigError(
                f"{where}: the model {model!r} reads the labels of {name!r}, which images that are to be bought do not "
                "have; expected an arm that buys none: set active.cycles or active.budget.amount to 0"
            )
