"""Workers as Ray actors on the bundles of a trial's placement group.

Ray restarts nothing by itself (a restarting actor swallows calls): an actor that died is replaced here, a bounded
number of times, and what it was doing is done again. Finished shards and training checkpoints lie in the run folder, so
nothing else is lost. This module imports no torch: the process of a trial only directs, and stays small.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.components import attribute
from orchestrator.dispatch import Dispatch
from orchestrator.errors import MtalError, TrialError
from orchestrator.identity import require_same_sources
from orchestrator.workers import (
    Bought,
    ExplainJob,
    FitJob,
    Fitted,
    GroupLost,
    PseudoJob,
    Scored,
    ScoreJob,
    Seat,
    SelectJob,
    Setup,
    ranges,
)

LOOK = 10.0  # seconds between looks at what takes long
WAITING = "waiting for room in the cluster"
GRACE = 20.0  # seconds that processes which train together have to say why one of them is gone


class Board:
    """Where workers tell how far they are, and the command reads it."""

    def __init__(self) -> None:
        self._state: dict[str, tuple[str, int, int]] = {}

    def tell(self, unit: str, phase: str, done: int, total: int) -> None:
        """Shards end out of order: within a phase the farthest one counts."""
        last, before, whole = self._state.get(unit, ("", 0, 0))
        self._state[unit] = (phase, max(done, before) if (phase, total) == (last, whole) else done, total)

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

    def host(self) -> str:
        """The address of this process's node."""
        return str(ray.util.get_node_ip_address())

    def _made(self, setup: Setup) -> Any:
        sys.path[:0] = [p for p in self._paths if p not in sys.path]
        require_same_sources(setup.code, setup.home)
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
        self._used = count

    def turn_to(self, setup: Setup, unit: str) -> None:
        """Work for another unit from now on."""
        self._setup, self._unit, self._left = setup, unit, self._max_failures

    def use(self, count: int) -> None:
        """Give shards to the first ``count`` workers only."""
        self._used = count

    def each(self, method: str, *arguments: Any) -> list[Any]:
        """The answers of all workers in use, one each. TrialError where one is dead."""
        try:
            return list(ray.get([self._ask(index, method, *arguments) for index in range(self._used)]))
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:
            raise TrialError(
                f"{self._unit}: a worker died ({type(error).__name__}); look at the memory of the nodes, then type the "
                "same command again"
            ) from error

    def _start(self, index: int) -> ActorHandle:
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index + 1)
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "scheduling_strategy": place}
        return WorkerActor.options(**options).remote(*self._arguments)

    def _replace(self, index: int, doing: str, error: RayError) -> None:
        """A new actor for one that died; TrialError when too many have."""
        self._spend(doing, error)
        self._renew([index])

    def _spend(self, doing: str, error: RayError) -> None:
        """Count a death; TrialError when there were too many."""
        if self._left == 0:
            raise TrialError(
                f"{self._unit}: a worker died while it was to {doing} ({type(error).__name__}), and so did its "
                "replacements; look at the memory of the node, lower the batch, then type the same command again"
            ) from error
        self._left -= 1

    def _ask(self, actor: int, method: str, *arguments: Any, batch: int | None = None) -> ray.ObjectRef:
        setup = self._setup if batch is None else replace(self._setup, batch=batch)
        return self._actors[actor].call.remote(setup, self._unit, method, *arguments)

    def _map(self, method: str, calls: Sequence[tuple[Any, ...]], doing: str) -> list[Any]:
        """The answers of all calls, in order, each made by whichever actor is free.

        A worker that died gets a successor, and its call is made again, up to a bound: then the call is named. What is
        slow is made a second time elsewhere. A worker without memory tries the call once with half of the batch.
        """
        books, answers, halved = Dispatch(len(calls), self._max_failures), [None] * len(calls), set[int]()
        running: dict[ray.ObjectRef, int] = {}
        starting = {actor.__ray_ready__.remote(): index for index, actor in enumerate(self._actors[: self._used])}
        while not books.finished:
            while (pair := books.next(time.monotonic())) is not None:
                worker, call = pair
                batch = max(self._setup.batch // 2, 1) if call in halved else None
                running[self._ask(worker, method, *calls[call], batch=batch)] = worker
            ready, _ = ray.wait([*starting, *running], num_returns=1, timeout=LOOK)
            if not ready and not running:
                self._tell(WAITING)
            for ref in ready:
                if ref in starting:
                    starting |= self._welcome(ref, starting.pop(ref), books)
                else:
                    worker = running.pop(ref)
                    starting |= self._take(ref, worker, books, answers, halved, doing)
        self._renew(list(running.values()))  # they are slow, or hang, with what others have answered
        return answers

    def _welcome(self, ref: ray.ObjectRef, worker: int, books: Dispatch) -> dict[ray.ObjectRef, int]:
        """A worker that started may be given calls; one that could not is replaced: what to wait for then."""
        try:
            ray.get(ref)
        except RayError as error:
            self._replace(worker, "start", error)
            return {self._actors[worker].__ray_ready__.remote(): worker}
        books.free(worker)
        return {}

    def _take(
        self, ref: ray.ObjectRef, worker: int, books: Dispatch, answers: list[Any], halved: set[int], doing: str
    ) -> dict[ray.ObjectRef, int]:
        """Keep an answer, or see to it that the call is made again; the successors to wait for."""
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            if not is_out_of_memory(error.cause):
                raise _cause(error) from error
            call = books.failed(worker)
            self._halve(call, halved, doing, len(answers), error)
        except RayError as error:
            call = books.died(worker)
            if is_out_of_memory(error):
                self._halve(call, halved, doing, len(answers), error)
            if books.is_poisoned(call):
                raise TrialError(
                    f"{self._unit}: {books.deaths[call]} workers died while they were to "
                    f"{self._named(doing, call, len(answers))} ({type(error).__name__}); look at these images and at "
                    "the memory of the nodes, then type the same command again"
                ) from error
            self._renew([worker])
            return {self._actors[worker].__ray_ready__.remote(): worker}
        else:
            call_done = books.answered(worker, time.monotonic())
            if call_done is not None:
                answers[call_done] = answer
        return {}

    def _halve(self, call: int, halved: set[int], doing: str, calls: int, error: RayError) -> None:
        """Let a call be made with half of the batch; TrialError when that is what ran out of memory."""
        if call in halved or self._setup.batch == 1:
            batch = max(self._setup.batch // 2, 1)
            raise TrialError(
                f"{self._unit}: out of memory while a worker was to {self._named(doing, call, calls)}, also with a "
                f"batch of {batch}; lower cluster.score_batch, or give the workers more memory, then type the same "
                "command again"
            ) from error
        halved.add(call)

    def _named(self, doing: str, call: int, calls: int) -> str:
        first = call * self._setup.shard
        return f"{doing} {call + 1} of {calls} (images {first + 1} to {first + self._setup.shard}, ordered by key)"

    def _one(self, method: str, *arguments: Any) -> Any:
        """The answer of the first actor: training and what follows from all shards."""
        while True:
            try:
                started = self._actors[0].__ray_ready__.remote()
                while not ray.wait([started], timeout=LOOK)[0]:
                    self._tell(WAITING)
                ray.get(started)
                return ray.get(self._ask(0, method, *arguments))
            except RayTaskError as error:
                if is_out_of_memory(error.cause):
                    raise TrialError(
                        f"{self._unit}: out of memory while a worker was to {method}; lower train.batch or raise "
                        "train.accumulate, or give the worker more memory, then type the same command again"
                    ) from error
                raise _cause(error) from error
            except RayError as error:
                self._replace(0, method, error)

    def _tell(self, phase: str) -> None:
        self._arguments[0].tell.remote(self._unit, phase, 0, 0)

    def _together(self, job: FitJob) -> Fitted:
        """The answer of the first of the actors that train together, begun again as long as one of them dies."""
        members = range(job.train.processes)
        while True:
            try:
                return self._met(job, members)
            except RayTaskError as error:
                if not isinstance(error.cause, GroupLost):
                    self._renew(members)  # the others wait for the one that raised
                    raise _cause(error) from error
                lost: RayError = error
            except RayError as error:
                lost = error
            self._renew(members)
            self._spend("train together", lost)

    def _met(self, job: FitJob, members: Sequence[int]) -> Fitted:
        """One attempt: the first one's answer. RayError where a member is dead, has raised, or misses another one."""
        hosts = ray.get([self._actors[i].host.remote() for i in members])
        meet = (hosts[0], ray.get(self._ask(0, "meet", hosts[0])))
        seats = [Seat(i, len(hosts), host, meet) for i, host in enumerate(hosts)]
        answers = [self._ask(i, "fit", job, seat) for i, seat in zip(members, seats, strict=True)]
        waiting: list[ray.ObjectRef] = list(answers)
        lost: RayError | None = None
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=None if lost is None else GRACE)
            if not ready:
                break
            try:
                fitted: Fitted = ray.get(ready[0])
                if ready[0] == answers[0]:
                    return fitted  # all have made the last step
            except RayTaskError as error:
                if not isinstance(error.cause, GroupLost):
                    raise
                lost = error  # it is another one that is dead, or has raised
        assert lost is not None
        raise lost

    def _renew(self, indices: Sequence[int]) -> None:
        """New actors in the place of these, dead or alive."""
        for index in indices:
            ray.kill(self._actors[index])
            self._actors[index] = self._start(index)

    # ---- the seam --------------------------------------------------------------------------------------------------

    def fit(self, job: FitJob) -> Fitted:
        if job.train.processes > 1:
            return self._together(job)
        fitted: Fitted = self._one("fit", job)
        return fitted

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        shards = range(len(ranges(self._one("count", split), self._setup.shard)))
        parts = self._map("evaluate_shard", [(checkpoint, split, i) for i in shards], "evaluate shard")
        figures: dict[str, float] = self._one("combine", *parts)
        return figures

    def score(self, job: ScoreJob) -> Scored:
        shards = range(len(ranges(len(job.labeled), self._setup.shard)))
        held = ray.put(job)  # once: it names every image of the pool
        return Scored.of(self._map("score_shard", [(held, i) for i in shards], "score shard"))

    def pseudo(self, job: PseudoJob) -> int:
        shards = range(len(ranges(len(job.wanted), self._setup.shard)))
        held = ray.put(job)
        return sum(self._map("pseudo_shard", [(held, i) for i in shards], "label shard"))

    def select(self, job: SelectJob) -> list[Bought]:
        bought: list[Bought] = self._one("select", job)
        return bought

    def explain(self, job: ExplainJob) -> None:
        self._one("explain", job)

    def label_cost(
        self, rows: NDArray[np.int64], has: NDArray[np.bool_], labels: tuple[str, ...] = ()
    ) -> dict[str, float]:
        cost: dict[str, float] = self._one("label_cost", rows, has, labels)
        return cost

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a worker ran out of memory: Python's or torch's own word, or that of Ray's memory monitor."""
    return isinstance(error, MemoryError | OutOfMemoryError) or type(error).__name__ == "OutOfMemoryError"


def _cause(error: RayTaskError) -> BaseException:
    """The error as it was raised over there: ours without Ray's traceback around it."""
    cause = error.cause
    return cause if isinstance(cause, MtalError | OSError) else error
