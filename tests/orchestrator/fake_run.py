"""Writes a small but complete run folder with invented figures, as a real run leaves it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from orchestrator.gallery import GalleryEntry, panel, write_gallery
from strategies.base import Score
from tasks.types import ClassMap, Detections, Prediction, SegMap

CLASSES = ClassMap(("car", "bus", "sign"), ("road", "sky", "car", "bus", "sign"), (2, 3, 4))
GAINS = {"random": 0.0, "equal": 0.012, "boxmask": 0.006, "no-new-labels": -0.018}  # mAP a cycle, beyond random's
POOL = 400


def write_fake_run(
    folder: Path,
    *,
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (0, 1),
    cycles: int = 3,
    tasks: Sequence[str] = ("detection", "segmentation"),
    split: str = "test",
    evaluations: int = 1,
    data: str = "streets",
    pictures: int = 2,
    lost: Sequence[tuple[str, int, int]] = (),
) -> Path:
    """The folder, filled; each of ``lost`` is (arm, seed, cycles it still finished), and is noted as a failure."""
    arms = arms or {
        "random": {"strategy": "random"},
        "equal": {"strategy": {"name": "equal", "form": "kl"}},
        "boxmask": {"strategy": {"name": "boxmask", "tau": 0.3}},
        "no-new-labels": {"strategy": "random", "active.budget.amount": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    plan = _experiment(folder.name, data, tasks, arms, seeds, cycles, evaluations)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    (folder / "environment.json").write_text(json.dumps(_environment(split)))
    (folder / "reference.json").write_text(json.dumps(_reference(tasks, split)))
    finished = {(arm, seed): cycles + 1 for arm in arms for seed in seeds}
    finished.update({(arm, seed): done for arm, seed, done in lost})
    rows = [
        _row(arm, seed, cycle, tasks, buys="active.budget.amount" not in overrides)
        for arm, overrides in arms.items()
        for seed in seeds
        for cycle in range(finished[arm, seed])
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({n: [row.get(n) for row in rows] for n in columns}), folder / "cycles.parquet")
    failures = [{"arm": a, "seed": s, "why": "the process was killed (out of memory)"} for a, s, _ in lost]
    (folder / "failures.json").write_text(json.dumps(failures))
    for arm in arms if pictures else ():
        for cycle in range(cycles):
            if "active.budget.amount" not in arms[arm]:
                write_fake_gallery(folder / arm / f"seed_{seeds[0]}" / f"cycle_{cycle}" / "gallery", arm, pictures)
    return folder


def write_fake_gallery(folder: Path, arm: str, pictures: int) -> None:
    """Pictures of invented scenes, drawn by the real gallery."""
    entries = []
    for rank in range(pictures):
        image, prediction, doubt = fake_scene(rank, (48, 80))
        score = Score(2.5 - rank / 3, {} if arm == "random" else {"s_loc": 0.4, "s_seg": 2.1 - rank / 3})
        maps = {} if arm == "random" else {"doubt of the segmentation": doubt}
        picture = panel(image, prediction, maps, CLASSES, score, f"{rank + 1}. train-{rank:05d}")
        entries.append(GalleryEntry(f"train-{rank:05d}", rank, score.value, score.parts, picture))
    write_gallery(folder, entries)


def fake_scene(seed: int, size: tuple[int, int]) -> tuple[torch.Tensor, Prediction, torch.Tensor]:
    """An image ``[3, H, W]`` of a road, a sky and two things, what a model could have answered, and its entropy."""
    rng = np.random.default_rng(seed)
    h, w = size
    label = np.where(np.arange(h)[:, None] < h * 0.45, 1, 0) + np.zeros((h, w), dtype=np.int64)
    boxes = []
    for k in (2, 3):
        x, y = rng.uniform(0.05, 0.65) * w, rng.uniform(0.35, 0.55) * h
        boxes.append((x, y, x + 0.22 * w, y + 0.3 * h))
        label[int(y) : int(y + 0.3 * h), int(x) : int(x + 0.22 * w)] = k
    colors = np.array([(0.4, 0.4, 0.42), (0.6, 0.75, 0.9), (0.2, 0.3, 0.7), (0.85, 0.5, 0.1)])
    image = np.clip(colors[label] + rng.normal(0, 0.04, (h, w, 3)), 0, 1)
    logits = 4 * np.eye(5)[label[::2, ::2]].transpose(2, 0, 1) + rng.normal(0, 1, (5, (h + 1) // 2, (w + 1) // 2))
    log_probs = torch.from_numpy(logits).float().log_softmax(0)
    found = Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor([0.93, 0.41]),
        labels=torch.tensor([0, 1]),
        probs=torch.tensor([[0.93, 0.02, 0.01], [0.1, 0.41, 0.02]]),
    )
    entropy = -(log_probs.exp() * log_probs).sum(0)
    picture = torch.from_numpy(image.transpose(2, 0, 1)).float()
    return picture, Prediction({"detection": found, "segmentation": SegMap(log_probs)}), entropy


def _row(arm: str, seed: int, cycle: int, tasks: Sequence[str], *, buys: bool) -> dict[str, Any]:
    rng = np.random.default_rng([seed, cycle, *arm.encode()] if cycle else [seed, 0])  # cycle 0 is shared
    images = 160 + 40 * cycle * buys
    gain = cycle * (0.012 + GAINS.get(arm, 0.004)) + 0.006 * math.sin(seed) + rng.normal(0, 0.004)
    metrics = _metrics(0.14 + gain, 0.47 + gain, tasks)
    full = _reference(tasks, "test")["metrics"]
    return {
        "arm": arm, "seed": seed, "cycle": cycle, "total": POOL, "best_step": 100 + cycle, "skipped": 0,
        "mdsq": sum(metrics[m] / v for m, v in full.items()) / len(full),
        "forwards": 0.0 if arm in ("random", "no-new-labels") else 2.0 + (arm == "boxmask") * 1.43,
        **{f"labeled.{task}": images for task in tasks},
        "cost.seconds": 1500.0 * images, "cost.boxes": 6.0 * images,
        "seconds.fit": 40.0 if cycle else 160.0, "seconds.evaluate": 2.0,
        "seconds.score": 0.5 * (cycle < 3), "seconds.select": 0.02, "seconds.explain": 0.4,
        **metrics,
    }  # fmt: skip


def _metrics(ap: float, iou: float, tasks: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "detection" in tasks:
        by_class = {"car": ap * 1.9, "bus": ap * 0.3, "sign": math.nan}
        found |= {"detection.map": ap, "detection.ap50": 2.1 * ap}
        found |= {f"detection.ap/{name}": value for name, value in by_class.items()}
    if "segmentation" in tasks:
        found |= {"segmentation.miou": iou}
        found |= {
            f"segmentation.iou/{n}": min(1, iou * f)
            for n, f in zip(CLASSES.segmentation, (1.8, 1.9, 1, 0.5, 0.2), strict=True)
        }
    if "depth" in tasks:
        found |= {"depth.rmse": 4.0 - ap}
    return found


def _reference(tasks: Sequence[str], split: str) -> dict[str, Any]:
    each = {str(s): _metrics(0.195 + 0.01 * s, 0.535 + 0.006 * s, tasks) for s in (0, 1)}
    main = {"detection": "map", "segmentation": "miou", "depth": "rmse"}
    names = [f"{task}.{main[task]}" for task in tasks]
    return {
        "metrics": {n: (each["0"][n] + each["1"][n]) / 2 for n in names},
        "per_seed": each,
        "higher_is_better": {n: not n.startswith("depth") for n in names},
        "main": {task: main[task] for task in tasks},
        "steps": 900, "seeds": [0, 1], "split": split,
    }  # fmt: skip


def _experiment(
    name: str,
    data: str,
    tasks: Sequence[str],
    arms: Mapping[str, Any],
    seeds: Sequence[int],
    cycles: int,
    evaluations: int,
) -> dict[str, Any]:
    return {
        "name": name,
        "data": {"name": data, "images": POOL, "validation": 240, "size": [96, 160], "redundancy": 1.0, "tail": 0.0},
        "tasks": {task: {} for task in tasks},
        "model": {"name": "small"},
        "train": {"steps": 150, "first_steps": 600, "batch": 8, "rate": 0.004, "evaluations": evaluations},
        "active": {"initial": 0.4, "budget": {"amount": 0.1, "unit": "images"}, "cycles": cycles, "warm_start": True},
        "reference": {"steps": 900, "seeds": [0, 1]},
        "arms": {arm: dict(overrides) for arm, overrides in arms.items()},
        "seeds": list(seeds),
    }  # fmt: skip


def _environment(split: str) -> dict[str, Any]:
    images = {"train": POOL, "val": 240, "test": 240 if split == "test" else 0}
    knobs = {"name": "streets", "redundancy": 1.0, "tail": 0.0, "size": [96, 160]}
    return {
        "mtal": "0.1.0", "python": "3.11.7", "torch": "2.12.0", "ray": "2.60.0", "numpy": "2.4.6",
        "platform": "Linux-6.1-x86_64", "cpu": "a CPU with 2 cores", "gpu": None, "code": "0123456789abcdef",
        "data": {"images": images, "adapter": knobs},
    }  # fmt: skip
