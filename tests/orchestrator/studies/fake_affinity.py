"""Writes a run folder with invented figures of students, teachers and controls."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

MAIN = {"segmentation": "miou", "depth": "rmse", "detection": "map"}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ps": {"teacher": {"task": "segmentation", "inputs": ["rgb", "depth"], "threshold": 0.9}},
    "ps-blind": {"teacher.task": "segmentation", "teacher.inputs": ["rgb"], "teacher.threshold": 0.9},
    "pd": {"teacher": {"task": "depth", "inputs": ["rgb", "segmentation"]}},
    "pd-blind": {"teacher": {"task": "depth", "inputs": ["rgb"]}},
    "mm": {"model.inputs": ["rgb", "depth"], "model.fusion": "stem"},
}
# mIoU and RMSE of each arm, as factors on those of "plain"
FACTORS = {
    "plain": (1.0, 1.0), "ps": (1.10, 1.0), "ps-blind": (1.02, 1.0), "pd": (1.0, 0.90), "pd-blind": (1.0, 0.90),
    "mm": (1.20, 0.1),
}  # fmt: skip


def write_fake_affinity(
    folder: Path,
    *,
    arms: Mapping[str, Mapping[str, Any]] = ARMS,
    factors: Mapping[str, Sequence[float]] = FACTORS,
    tasks: Sequence[str] = ("segmentation", "depth"),
    seeds: Sequence[int] = range(5),
    noise: float = 0.004,
    unfinished: Sequence[tuple[str, int]] = (),
    cycles: int = 0,
) -> Path:
    """The folder, filled; ``factors``: each arm's figures in the order of ``tasks``, as shares of .4, with noise."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{task}.{MAIN[task]}" for task in tasks]
    plan = {
        "name": folder.name, "tasks": {task: {} for task in tasks},
        "model": {"name": "mtinet", "loss_stride": 2}, "train": {"steps": 600, "first_steps": None},
        "active": {"initial": {"segmentation": 100, "depth": 200}, "budget": {"amount": 0}, "cycles": cycles},
        "strategy": {"name": "random"}, "teacher": None, "arms": {arm: dict(own) for arm, own in arms.items()},
        "seeds": list(seeds),
    }  # fmt: skip
    (folder / "experiment.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    reference = {
        "metrics": dict.fromkeys(names, 0.8), "higher_is_better": {name: name != "depth.rmse" for name in names},
        "main": {task: MAIN[task] for task in tasks}, "split": "test",
    }  # fmt: skip
    (folder / "reference.json").write_text(json.dumps(reference))
    rows = []
    for arm in arms:
        for seed in seeds:
            rng = np.random.default_rng([seed, *arm.encode()])
            own = {n: 0.4 * f * (1 + rng.normal(0, noise)) for n, f in zip(names, factors[arm], strict=True)}
            for cycle in range(cycles + 1) if (arm, seed) not in unfinished else ():
                rows.append({"arm": arm, "seed": seed, "cycle": cycle, "labeled.depth": 200, **own})
    columns = {name: [row[name] for row in rows] for name in ("arm", "seed", "cycle", "labeled.depth", *names)}
    pq.write_table(pa.table(columns), folder / "cycles.parquet")
    return folder
