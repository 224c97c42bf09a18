"""``cycles.parquet``: a row for each cycle of each trial."""

from typing import Any

import pyarrow as pa

from orchestrator import cycle
from orchestrator.store import write_table
from orchestrator.trials import Plan

_FIRST = ("arm", "seed", "cycle", "total", "mdsq", "best_step", "skipped", "forwards")


def write_cycles(plan: Plan) -> pa.Table:
    """Write ``cycles.parquet`` from the committed cycles of every trial, and answer it; it may have no rows."""
    rows: list[dict[str, Any]] = []
    for name in plan.experiment.arms:
        for seed in plan.experiment.seeds:
            for done in cycle.finished(plan.folder, name, seed):
                rows.append(_row(name, seed, done))
    columns = sorted({key for row in rows for key in row} - set(_FIRST), key=str)
    table = pa.table({key: pa.array([row.get(key) for row in rows]) for key in (*_FIRST, *columns)})
    write_table(plan.folder.cycles, table)
    return table


def _row(name: str, seed: int, done: cycle.Cycle) -> dict[str, Any]:
    return {
        "arm": name,
        "seed": seed,
        "cycle": done.index,
        "total": done.total,
        "mdsq": done.mdsq,
        "best_step": done.best_step,
        "skipped": done.skipped,
        "forwards": done.forwards,
        **{f"labeled.{task}": count for task, count in done.labeled.items()},
        **{f"cost.{unit}": amount for unit, amount in done.cost.items()},
        **{f"seconds.{phase}": value for phase, value in done.seconds.items()},
        **{f"pseudo.{task}": count for task, count in done.teacher.get("made", {}).items()},
        **{f"coverage.{task}": share for task, share in done.teacher.get("coverage", {}).items()},
        **{f"teacher.{name}": value for name, value in done.teacher.get("metrics", {}).items()},
        **dict(done.metrics),
    }
