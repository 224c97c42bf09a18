"""What a teacher is sure of: the labels of one shard of the pool, as maps in PNGs and a row for each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.evaluation import Indexed
from orchestrator.store import read_metadata, shard_path, write_table
from orchestrator.workers import Progress, PseudoJob
from tasks.base import Model, Task, Teachable
from tasks.data.files import place, write_bytes
from tasks.data.manifest import Manifest
from tasks.data.pseudo_maps import class_png, depth_png
from tasks.types import IGNORE, Batch, Prediction

ROW = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("key", pa.uint64()),
        pa.field("task", pa.string()),
        pa.field("coverage", pa.float64()),  # share of the pixels that have a label
        pa.field("threshold", pa.float64()),
        pa.field("source", pa.string()),
        pa.field("file", pa.string()),  # relative to the job's folder; null where no pixel has a label
    ]
)


@dataclass(frozen=True)
class Teaching:
    """What a worker labels with."""

    model: Model
    tasks: Mapping[str, Task]
    images: Indexed  # with what the model reads, and no targets
    manifest: Manifest
    batch: int
    device: torch.device
    told: Progress


def label_shard(
    job: PseudoJob,
    shard: int,
    rows: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    teaching: Callable[[NDArray[np.int64]], Teaching],
) -> int:
    """Label the rows ``[n]`` of a shard where ``wanted [n, L]``; how many images were looked at.

    The maps are written first and the shard's file last, so it stands for all of them. One that is there from the same
    inputs stays.
    """
    path = shard_path(job.folder, shard)
    if path.is_file():
        meta = read_metadata(path).metadata or {}
        if meta.get(b"inputs", b"").decode() == job.inputs:
            return int(meta[b"images"])
    chosen = wanted.any(1)
    found = list(_labels(job, shard, rows[chosen], wanted[chosen], teaching)) if chosen.any() else []
    meta = {"inputs": job.inputs, "images": str(int(chosen.sum()))}
    write_table(path, pa.Table.from_pylist(found, ROW).replace_schema_metadata(meta), sorted_by="key")
    return int(chosen.sum())


def _labels(
    job: PseudoJob,
    shard: int,
    rows: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    teaching: Callable[[NDArray[np.int64]], Teaching],
) -> Iterator[dict[str, Any]]:
    """A row of ``ROW`` for each wanted label, by key; its map is written before it."""
    by = teaching(rows)
    records = by.manifest.take(rows, ["id", "key", "height", "width"]).to_pylist()
    for start in range(0, len(rows), by.batch):
        part = range(start, min(start + by.batch, len(rows)))
        batch = Batch.of([by.images[int(rows[i])] for i in part], ()).to(by.device)
        plain, mirrored = _answers(by.model, batch, job)
        size = (batch.images.shape[-2], batch.images.shape[-1])
        for b, i in enumerate(part):
            for task in (task for task, is_wanted in zip(job.tasks, wanted[i], strict=True) if is_wanted):
                turned = None if mirrored is None else mirrored[b][task]
                label = _teachable(by.tasks[task]).pseudo(plain[b][task], size, job.threshold, turned)
                file = f"{task}/{shard:05d}/{records[i]['key']:016x}.png"
                if label is not None:
                    _write(job.folder, file, label.cpu(), by.manifest, (records[i]["height"], records[i]["width"]))
                yield {
                    "id": records[i]["id"], "key": records[i]["key"], "task": task, "coverage": coverage(label),
                    "threshold": job.threshold, "source": job.source, "file": None if label is None else file,
                }  # fmt: skip
        by.told("label", part.stop, len(rows))


def _answers(model: Model, batch: Batch, job: PseudoJob) -> tuple[list[Prediction], list[Prediction] | None]:
    """The answers to the images, and to their mirror images where those are compared."""
    plain = model.predict(batch.images, job.tasks, batch.inputs)
    if not job.mirrored:
        return plain, None
    turned = {name: x.flip(-1) for name, x in batch.inputs.items()}
    return plain, model.predict(batch.images.flip(-1), job.tasks, turned)


def _teachable(task: Task) -> Teachable:
    assert isinstance(task, Teachable)
    return task


def coverage(label: Tensor | None) -> float:
    """The share of pixels of a map that have a label: not 255, not NaN."""
    if label is None:
        return 0.0
    known = label.isfinite() if label.is_floating_point() else label != IGNORE
    return float(known.float().mean())


def _write(folder: str, file: str, label: Tensor, manifest: Manifest, size: tuple[int, int]) -> None:
    """Put a map into its PNG, of the size of the stored image."""
    if label.is_floating_point():
        png = depth_png(label.numpy(), size)
    else:
        png = class_png(label.numpy(), manifest.lut, size)
    write_bytes(str(place(folder) / file), place(folder), png)
