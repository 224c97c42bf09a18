"""Writes a run folder with invented errors and weights, as a run with ``train.validate_every`` leaves it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from orchestrator.store import write_table

EVERY, LOOKS = 25, 40
# arm: (time constant of its error in steps, error at the end, weights at the start and at the end of each loss)
ARMS: dict[str, tuple[float, float, Mapping[str, tuple[float, float]]]] = {
    "iou": (150.0, 0.45, {"pickup.iou": (1.0, 1.0)}),
    "kgc": (140.0, 0.30, {"pickup.iou": (1.0, 60.0), "pickup.dist": (0.01, 0.1)}),
    "auxnet": (70.0, 0.28, {"pickup.iou": (1.0, 4.0), "pickup.dist": (0.05, 0.5)}),
}


def write_fake_study(
    folder: Path,
    *,
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = range(5),
    dead: Sequence[tuple[str, int]] = (),
    unfinished: Sequence[tuple[str, int]] = (),
    validated: bool = True,
) -> Path:
    """The folder, filled; ``dead`` and ``unfinished`` are (arm, seed)."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"name": folder.name, "arms": {arm: {} for arm in arms}, "seeds": list(seeds)}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    reference = {"metrics": {"pickup.pickup_rate": 0.8}, "higher_is_better": {"pickup.pickup_rate": True}}
    (folder / "reference.json").write_text(json.dumps(reference))
    for i, arm in enumerate(arms):
        for seed in seeds:
            if (arm, seed) in unfinished:
                continue
            fit = folder / "initial" / f"mark{i}" / f"seed_{seed}"
            cycle = folder / arm / f"seed_{seed}" / "cycle_0"
            cycle.mkdir(parents=True)
            (cycle / "cycle.json").write_text(json.dumps({"checkpoint": f"initial/mark{i}/seed_{seed}/model.pt"}))
            if validated:
                write_table(fit / "validation.parquet", _validation(arm, seed, (arm, seed) in dead))
            write_table(fit / "steps.parquet", _steps(arm))
    return folder


def _validation(arm: str, seed: int, is_dead: bool) -> pa.Table:
    rng = np.random.default_rng([seed, *arm.encode()])
    tau, end, _ = ARMS[arm]
    steps = EVERY * np.arange(1, LOOKS + 1)
    error = end + 1.2 * np.exp(-steps / tau / rng.uniform(0.8, 1.25)) + rng.normal(0, 0.012, LOOKS)
    if is_dead:
        error = np.full(LOOKS, 1.9)
    figures = {
        "pickup.pickup_rate": 1 - error / 2,
        "pickup.summed_error": error,
        "pickup.queries": np.full(LOOKS, 60.0),
        "pickup.dead": np.full(LOOKS, 60.0 if is_dead else 1.0),
        "pickup.pickup_rate/cup": np.full(LOOKS, np.nan),
    }
    return pa.table(
        {
            "step": pa.array(np.tile(steps, len(figures)), pa.int32()),
            "metric": pa.array(np.repeat(list(figures), LOOKS)).dictionary_encode(),
            "value": pa.array(np.concatenate(list(figures.values()))),
        }
    )


def _steps(arm: str) -> pa.Table:
    count, weights = EVERY * LOOKS, ARMS[arm][2]
    values = [np.geomspace(*ends, count) for ends in weights.values()]
    return pa.table(
        {
            "step": pa.array(np.tile(np.arange(count), len(weights)), pa.int32()),
            "loss": pa.array(np.repeat(list(weights), count)).dictionary_encode(),
            "value": pa.array(np.ones(count * len(weights), np.float32)),
            "weight": pa.array(np.concatenate(values).astype(np.float32)),
        }
    )
