"""What stands below the tables of a run: what a mark means, and what teachers have labeled. No torch."""

from collections.abc import Iterator

import numpy as np

from orchestrator.curves import Results, column
from orchestrator.tables import columns, name_of, number

MARK = "* The output was an input: the network was shown what it is measured on. Such a figure is not compared."


def footnotes(results: Results) -> list[str]:
    """Sentences; none where there is nothing to say."""
    marked = any(results.is_shown(arm, metric) for arm in results.arms for metric in columns(results))
    return [*([MARK] if marked else []), *_teachers(results)]


def _teachers(results: Results) -> Iterator[str]:
    """For each arm with a teacher: what it labeled in the last cycle, and how good it was; means over the seeds."""
    names = [n.partition(".")[2] for n in results.table.column_names if n.startswith("pseudo.")]
    if not names:
        return
    arms = np.array(results.table.column("arm").to_pylist(), dtype=object)
    cycles = column(results.table, "cycle")
    for arm in results.arms:
        mine = arms == arm
        last = mine & (cycles == cycles[mine].max()) if mine.any() else mine
        for task in names:
            counts = column(results.table, f"pseudo.{task}")[last]
            if counts.size and np.isfinite(counts).all():
                covered = column(results.table, f"coverage.{task}")[last].mean()
                yield (
                    f"{arm}: its teacher labeled {counts.mean():,.0f} images for {task} in the last cycle (coverage "
                    f"{100 * covered:.0f} %){_quality(results, task, last)}."
                )


def _quality(results: Results, task: str, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    """The teacher's own main figure of the task."""
    for metric in results.main_metrics:
        if metric.startswith(f"{task}.") and f"teacher.{metric}" in results.table.column_names:
            value = float(column(results.table, f"teacher.{metric}")[rows].mean())
            return f"; its own {name_of(metric)} is {number(value, metric)}"
    return ""
