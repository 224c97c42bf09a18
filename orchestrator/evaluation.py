"""A model over images → metrics. Metrics of shards add up exactly, so the answer does not depend on the workers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from orchestrator.workers import Progress
from tasks.base import Metric, Model, Task
from tasks.types import Batch, ClassMap, Sample


class Indexed(Protocol):
    """Samples by manifest row."""

    def __getitem__(self, row: int) -> Sample: ...


def evaluate(
    model: nn.Module,
    samples: Indexed,
    rows: Sequence[int],
    tasks: Mapping[str, Task],
    classes: ClassMap,
    batch: int,
    progress: Progress | None = None,
) -> dict[str, Metric]:
    """The metric of each task over the rows that are labeled for it, in the order of ``rows``."""
    assert isinstance(model, Model)
    metrics = {name: task.metric(classes) for name, task in tasks.items()}
    device = next(model.parameters()).device
    for start in range(0, len(rows), batch):
        chunk = Batch.of([samples[row] for row in rows[start : start + batch]], tuple(tasks)).to(device)
        predictions = model.predict(chunk.images, tuple(tasks), chunk.inputs)
        for name, metric in metrics.items():
            known = [i for i, target in enumerate(chunk.targets[name]) if target is not None]
            targets = [t for t in chunk.targets[name] if t is not None]
            metric.update([predictions[i][name] for i in known], targets, [chunk.ids[i] for i in known])
        if progress:
            progress("evaluate", min(start + batch, len(rows)), len(rows))
    return metrics


def merged(parts: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of all shards together."""
    total = dict(parts[0])
    for part in parts[1:]:
        for name, metric in part.items():
            total[name].merge(metric)
    return total


def figures(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Every figure as ``task.metric``."""
    return {f"{task}.{name}": value for task, metric in metrics.items() for name, value in metric.compute().items()}


def selection_score(metrics: Mapping[str, Metric], denominators: Mapping[str, float] | None) -> float:
    """What the best checkpoint is chosen by: the mean over tasks of m / m_full (m_full / m where lower is better).

    Without denominators (the reference's own choice) the mean of the raw main figures, lower-is-better ones negated.
    """
    scores = []
    for task, metric in metrics.items():
        value = metric.compute()[metric.main]
        if denominators is None:
            scores.append(value if metric.higher_is_better else -value)
        else:
            full = denominators[f"{task}.{metric.main}"]
            scores.append(value / full if metric.higher_is_better else full / max(value, 1e-12))
    return sum(0.0 if score != score else score for score in scores) / len(scores)
