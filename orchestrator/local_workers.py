"""Workers in this process: no Ray, a debugger steps through everything. Public: tests and notebooks use it too."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.worker import Worker, quiet
from orchestrator.workers import (
    Bought,
    ExplainJob,
    FitJob,
    Fitted,
    Progress,
    PseudoJob,
    Scored,
    ScoreJob,
    SelectJob,
    Setup,
    ranges,
)


class LocalWorkers:
    """One Worker, called directly."""

    def __init__(self, setup: Setup, progress: Progress = quiet) -> None:
        self.worker = Worker(setup, progress)

    def turn_to(self, setup: Setup, unit: str) -> None:
        """Work for another unit from now on."""
        self.worker = Worker(setup, self.worker.progress)

    def use(self, count: int) -> None:
        """There is but one."""
        assert count == 1

    def each(self, method: str, *arguments: Any) -> list[Any]:
        """The worker's answer."""
        return [getattr(self.worker, method)(*arguments)]

    def fit(self, job: FitJob) -> Fitted:
        return self.worker.fit(job)

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        shards = range(len(ranges(len(self.worker.rows(split)), self.worker.setup.shard)))
        return self.worker.combine(*[self.worker.evaluate_shard(checkpoint, split, i) for i in shards])

    def score(self, job: ScoreJob) -> Scored:
        shards = range(len(ranges(len(job.labeled), self.worker.setup.shard)))
        done = [self.worker.score_shard(job, i) for i in shards]
        return Scored.of(done)

    def pseudo(self, job: PseudoJob) -> int:
        shards = range(len(ranges(len(job.wanted), self.worker.setup.shard)))
        return sum(self.worker.pseudo_shard(job, i) for i in shards)

    def select(self, job: SelectJob) -> list[Bought]:
        return self.worker.select(job)

    def explain(self, job: ExplainJob) -> None:
        self.worker.explain(job)

    def label_cost(
        self, rows: NDArray[np.int64], has: NDArray[np.bool_], labels: tuple[str, ...] = ()
    ) -> dict[str, float]:
        return self.worker.label_cost(rows, has, labels)

    def close(self) -> None:
        """Nothing to hand back."""
