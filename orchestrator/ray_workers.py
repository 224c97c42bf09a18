"""Workers as Ray actors on the bundles of a trial's placement group.

Ray restarts nothing by itself (a restarting actor swallows calls): an actor that died is replaced here, a bounded
number of times, and what it was doing is done again. Finished shards and training checkpoints lie in the run folder, so
nothing else is lost. This module imports no torch: the process of a trial only directs, and stays small.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.components import attribute
from orchestrator.errors import MtalError, RunError, TrialError
from orchestrator.identity import HOME, code_fingerprint
from orchestrator.workers import Bought, ExplainJob, FitJob, Fitted, Scored, ScoreJob, SelectJob, Setup, ranges


class Board:
    """Where workers tell how far they are, and the command reads it."""

    def __init__(self) -> None:
        self._state: dict[str, tuple[str, int, int]] = {}

    def tell(self, unit: str, phase: str, done: int, total: int) -> None:
        self._state[unit] = (phase, done, total)

    def state(self) -> dict[str, tuple[str, int, int]]:
        return dict(self._state)


class WorkerProcess:
    """A process with a Worker in it, made anew when the setup changes: by a call, so that its errors are answers."""

    def __init__(self, board: ActorHandle, paths: Sequence[str]) -> None:
        self._board, self._paths = board, paths
        self._setup: Setup | None = None
        self._worker: Any = None
        self._unit, self._told = "", 0.0

    def call(self, setup: Setup, unit: str, method: str, *arguments: Any) -> Any:
        """The answer of a method of the worker of ``setup``; progress is told as ``unit``'s."""
        self._unit = unit
        if self._setup != setup:
            self._worker, self._setup = self._made(setup), setup
        return getattr(self._worker, method)(*arguments)

    def _made(self, setup: Setup) -> Any:
        sys.path[:0] = [p for p in self._paths if p not in sys.path]
        here = code_fingerprint()
        if here != setup.code:
            raise RunError(
                f"cluster: a worker runs other sources ({here}, in {HOME}) than the command ({setup.code}); "
                "install the same version on every node, or submit the tree as the job's working directory; if the "
                "sources were edited just now, type the same command again"
            )
        return attribute("orchestrator.worker:Worker")(setup, self._progress)

    def _progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._told > 0.5:
            self._told = now
            self._board.tell.remote(self._unit, phase, done, total)


BoardActor: Any = ray.remote(num_cpus=0)(Board)
WorkerActor: Any = ray.remote(max_restarts=0, max_task_retries=0)(WorkerProcess)


class RayWorkers:
    """The actors of one unit, or of one after another: a process costs seconds to start."""

    def __init__(
        self,
        setup: Setup,
        group: PlacementGroup,
        *,
        count: int,
        cpus: float,
        gpus: float,
        board: ActorHandle,
        unit: str,
        paths: Sequence[str],
        max_failures: int,
    ) -> None:
        self._group, self._arguments = group, (board, tuple(paths))
        self._cpus, self._gpus, self._max_failures = cpus, gpus, max_failures
        self.turn_to(setup, unit)
        self._actors = [self._start(i) for i in range(count)]

    def turn_to(self, setup: Setup, unit: str) -> None:
        """Work for another unit from now on."""
        self._setup, self._unit, self._left = setup, unit, self._max_failures

    def _start(self, index: int) -> ActorHandle:
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index + 1)
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "scheduling_strategy": place}
        return WorkerActor.options(**options).remote(*self._arguments)

    def _replace(self, index: int, doing: str, error: RayError) -> None:
        """A new actor for one that died; TrialError when too many have."""
        if self._left == 0:
            raise TrialError(
                f"{self._unit}: a worker died while it was to {doing} ({type(error).__name__}), and so did its "
                "replacements; look at the memory of the node, lower the batch, then type the same command again"
            ) from error
        self._left -= 1
        ray.kill(self._actors[index])
        self._actors[index] = self._start(index)

    def _ask(self, actor: int, method: str, *arguments: Any) -> ray.ObjectRef:
        return self._actors[actor].call.remote(self._setup, self._unit, method, *arguments)

    def _map(self, method: str, calls: Sequence[tuple[Any, ...]], doing: str) -> list[Any]:
        """The answers of all calls, in order, each made by whichever actor is free."""
        todo = deque(range(len(calls)))
        idle = deque(range(len(self._actors)))
        busy: dict[ray.ObjectRef, tuple[int, int]] = {}
        answers: list[Any] = [None] * len(calls)
        while todo or busy:
            while todo and idle:
                actor, call = idle.popleft(), todo.popleft()
                busy[self._ask(actor, method, *calls[call])] = (actor, call)
            ready, _ = ray.wait(list(busy), num_returns=1)
            actor, call = busy.pop(ready[0])
            try:
                answers[call] = ray.get(ready[0])
            except RayTaskError as error:
                raise _cause(error) from error
            except RayError as error:
                self._replace(actor, f"{doing} {call + 1} of {len(calls)}", error)
                todo.appendleft(call)
            idle.append(actor)
        return answers

    def _one(self, method: str, *arguments: Any) -> Any:
        """The answer of the first actor: training and what follows from all shards."""
        while True:
            try:
                return ray.get(self._ask(0, method, *arguments))
            except RayTaskError as error:
                raise _cause(error) from error
            except RayError as error:
                self._replace(0, method, error)

    # ---- the seam --------------------------------------------------------------------------------------------------

    def fit(self, job: FitJob) -> Fitted:
        fitted: Fitted = self._one("fit", job)
        return fitted

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        shards = range(len(ranges(self._one("count", split), self._setup.shard)))
        parts = self._map("evaluate_shard", [(checkpoint, split, i) for i in shards], "evaluate shard")
        figures: dict[str, float] = self._one("combine", *parts)
        return figures

    def score(self, job: ScoreJob) -> Scored:
        shards = range(len(ranges(len(job.labeled), self._setup.shard)))
        return Scored.of(self._map("score_shard", [(job, i) for i in shards], "score shard"))

    def select(self, job: SelectJob) -> list[Bought]:
        bought: list[Bought] = self._one("select", job)
        return bought

    def explain(self, job: ExplainJob) -> None:
        self._one("explain", job)

    def label_cost(self, rows: NDArray[np.int64], has: NDArray[np.bool_]) -> dict[str, float]:
        cost: dict[str, float] = self._one("label_cost", rows, has)
        return cost

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)


def _cause(error: RayTaskError) -> BaseException:
    """The error as it was raised over there: ours without Ray's traceback around it."""
    cause = error.cause
    return cause if isinstance(cause, MtalError | OSError) else error
