"""Units as trials of Ray Tune: resources, concurrency, failures.

Truth is the run folder, not Tune's state: every command starts a fresh Tuner over the units that are still open, each
unit skips what it has committed, and Tune's own files are thrown away.
"""

import math
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.execution import class_cache
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator import loggers
from orchestrator.config import Cluster
from orchestrator.cycle import Cycle
from orchestrator.display import Display
from orchestrator.errors import ConfigError, MtalError, RunError, disk_sentence
from orchestrator.head_watch import Head, beside, watched
from orchestrator.identity import require_same_sources
from orchestrator.ray_workers import LOOK, WAITING, BoardActor, RayWorkers
from orchestrator.room import check_room
from orchestrator.store import write_text
from orchestrator.trials import Failure, Plan, Unit, carry_out
from orchestrator.workers import Setup

DRIVER = 0.001  # CPUs of a trial's own process: it only directs
SILENT = 30.0  # seconds without a word of any worker before the command looks for the reason
NO_CLUSTER = (ConnectionError, RuntimeError, ValueError, TimeoutError)  # what Ray raises where none answers
OBJECT_STORE = 256 * 2**20  # bytes; a laptop needs no more, because no image and no prediction goes through it


@contextmanager
def cluster(address: str, cpus: int | None = None) -> Iterator[None]:
    """A connection to Ray: ``local`` starts a cluster of this machine on loopback and stops it afterwards."""
    common: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        common |= {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    head = Head(address.rpartition("://")[2] if ":" in address else "")
    with watched(head):
        _connect(address, common, tries=3 if address == "local" else 1)
        try:
            if not head.address:
                head.address = str(ray.get_runtime_context().gcs_address)
            yield
        finally:
            ray.shutdown()


def _connect(address: str, options: Mapping[str, Any], tries: int) -> None:
    """Connect to Ray; a cluster of this machine is tried again, because a busy machine may be too slow once."""
    for left in reversed(range(tries)):
        try:
            ray.init(address=address, **options)
        except Exception as error:  # Ray raises Exception itself where a node does not start in time
            if type(error) is not Exception and not isinstance(error, NO_CLUSTER):
                raise
            ray.shutdown()
            if left:
                continue
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(
                f"--address {address}: no Ray cluster answered ({first[:160]}); start one with 'ray start --head', "
                "give its address, or use local or none"
            ) from error
        return


def run_units(plan: Plan, units: Sequence[Unit], display: Display) -> list[Failure]:
    """Carry out units as trials, as many at a time as the cluster holds; those that failed, in their order."""
    if not units:
        return []
    needs = plan.experiment.cluster
    await_room(needs, display)
    # Tune would write the keys of S3 into the environment of its trials, which Ray logs: nodes have their own.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
        {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    )
    board = _board()
    trainable = tune.with_resources(
        tune.with_parameters(TuneTrial, plan=plan, board=board), tune.PlacementGroupFactory(_bundles(needs))
    )
    with (
        tempfile.TemporaryDirectory(prefix="mtal-tune-") as scratch,
        followed(board, display),
        loggers.opened(plan) as tell,
    ):
        grid = tune.Tuner(
            trainable,
            param_space={"unit": tune.grid_search([asdict(unit) for unit in units])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="units",
                storage_path=scratch,
                verbose=0,
                callbacks=[CycleEnds(tell)],
                failure_config=tune.FailureConfig(max_failures=needs.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    ray.kill(board)
    return _failures(grid, units)


@contextmanager
def pool_workers(setup: Setup, display: Display, name: str, needs: Cluster) -> Iterator[RayWorkers]:
    """Actors on a placement group of their own for the time of the block."""
    await_room(needs, display)
    board = _board()
    group = ray.util.placement_group(_bundles(needs))
    while not group.wait(LOOK):
        display.update(name, WAITING, 0, 0)
    workers = _workers(setup, group, needs, board, name, sys.path)
    try:
        with followed(board, display):
            yield workers
    finally:
        workers.close()
        ray.util.remove_placement_group(group)
        ray.kill(board)


def _bundles(needs: Cluster) -> list[dict[str, float]]:
    """The driver's bundle and one for each worker, reserved together: a trial has all it needs, or waits."""
    worker = {"CPU": needs.cpus_per_worker - DRIVER}
    if needs.gpus_per_worker:
        worker["GPU"] = needs.gpus_per_worker
    return [{"CPU": DRIVER}] + [dict(worker) for _ in range(needs.workers_per_trial)]


def await_room(needs: Cluster, display: Display) -> None:
    """ConfigError when no trial can start on the cluster, after the time that nodes are given to come.

    Where nodes are to come, the bundles of one trial are asked for, which is what an autoscaler looks at.
    """
    try:
        return check_room(nodes(), needs)
    except ConfigError:
        if not needs.wait_minutes:
            raise
    group = ray.util.placement_group(_bundles(needs))
    try:
        for waited in range(0, math.ceil(60 * needs.wait_minutes), int(LOOK)):
            display.update("the cluster", f"{WAITING}, {waited // 60} of {needs.wait_minutes:g} minutes", 0, 0)
            if group.wait(LOOK):
                return None
        return check_room(nodes(), needs)
    finally:
        ray.util.remove_placement_group(group)


def nodes() -> list[dict[str, float]]:
    """What each living node offers: {"CPU": .., "GPU": .., ..}."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class CycleEnds(tune.Callback):  # type: ignore[misc]
    """Tells the loggers of a unit whose trial has reported, in the process of the command."""

    def __init__(self, tell: Callable[[Unit], None]) -> None:
        self._tell = tell

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self._tell(Unit(**trial.config["unit"]))


class TuneTrial(tune.Trainable):  # type: ignore[misc]
    """A unit as a trial of Tune, in a process of its own that directs the workers of its placement group.

    A step is a cycle. Tune hands the process from one finished trial to the next one, and its workers with it.
    """

    def setup(self, config: Mapping[str, Any], plan: Plan, board: ActorHandle) -> None:
        sys.path[:0] = [path for path in plan.paths if path not in sys.path]  # marks are made of plugins' sources, too
        self._plan, self._board = plan, board
        self._workers: RayWorkers | None = None
        self.reset_config(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self._unit = Unit(**new_config["unit"])
        self._work: Iterator[Cycle] | None = None
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._work is None:
                require_same_sources(self._plan.code, self._plan.home)
                self._work = carry_out(self._plan, self._unit, self._serving())
            done = next(self._work, None)
        except MtalError as error:
            return _failed(str(error))
        except OSError as error:  # of a disk, in this process or in a worker
            return _failed(disk_sentence(error, self._plan.root))
        except Exception as error:  # noqa: BLE001 - whatever else a trial raises must not stop the other trials
            return _failed(unexpected(self._plan, self._unit, error))
        return {"done": True} if done is None else {"done": False, "cycle": done.index, "mdsq": done.mdsq}

    def _serving(self) -> RayWorkers:
        setup, needs = self._plan.setup(self._unit), self._plan.experiment.cluster
        if self._workers is None:
            group = ray.util.get_current_placement_group()
            self._workers = _workers(setup, group, needs, self._board, self._unit.name, self._plan.paths)
        else:
            self._workers.turn_to(setup, self._unit.name)
        return self._workers

    def cleanup(self) -> None:
        if self._workers is not None:
            self._workers.close()


def _failed(why: str) -> dict[str, Any]:
    return {"done": True, "error": why}


def _workers(
    setup: Setup, group: PlacementGroup, needs: Cluster, board: ActorHandle, unit: str, paths: Sequence[str]
) -> RayWorkers:
    return RayWorkers(
        setup, group, count=needs.workers_per_trial, cpus=needs.cpus_per_worker - DRIVER, gpus=needs.gpus_per_worker,
        board=board, unit=unit, paths=paths, max_failures=needs.max_failures,
    )  # fmt: skip


def unexpected(plan: Plan, unit: Unit, error: Exception) -> str:
    """One sentence about an error that is not the user's; its traceback is kept in the run folder."""
    path = plan.folder.root / "errors" / f"{unit.name.replace(' ', '_').replace(',', '')}.txt"
    write_text(path, "".join(traceback.format_exception(error)))
    last = str(error).strip().splitlines()[-1] if str(error).strip() else ""
    return f"{unit.name}: {type(error).__name__}: {last[:200]}; the traceback is in {path}"


def _failures(grid: tune.ResultGrid, units: Sequence[Unit]) -> list[Failure]:
    failures = []
    for result in grid:
        unit = Unit(**result.config["unit"])
        why = (result.metrics or {}).get("error")
        if result.error is not None:
            why = (
                f"{unit.name}: its process died again and again ({type(result.error).__name__}); look at the memory of "
                "the node, then type the same command again"
            )
        if why:
            failures.append(Failure(unit.arm, unit.seed, why))
    return sorted(failures, key=lambda f: [(u.arm, u.seed) for u in units].index((f.arm, f.seed)))


def _board() -> ActorHandle:
    """Where workers tell how far they are: on the node of the command, so that no other node takes it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return BoardActor.options(scheduling_strategy=here).remote()


def _is_short_of_room() -> bool:
    """Whether a placement group waits for nodes: that of a trial, or of somebody else. False where nobody answers."""
    try:
        groups = ray.util.placement_group_table().values()
    except (RayError, TimeoutError):  # the head is slow: another look comes
        return False
    return any(group["state"] in ("PENDING", "RESCHEDULING") for group in groups)


@contextmanager
def followed(board: ActorHandle, display: Display) -> Iterator[None]:
    """Carry what the workers tell to the display, until the block ends."""
    stop = threading.Event()

    def watch() -> None:
        last, changed = dict[str, tuple[str, int, int]](), time.monotonic()
        while not stop.wait(1.0):
            try:
                told = ray.get(board.state.remote(), timeout=LOOK)
            except (RayError, TimeoutError):  # its node is lost or slow: the work goes on, unseen
                told = last
            for unit, (phase, done, total) in told.items():
                display.update(unit, phase, done, total)
            if told != last:
                last, changed = told, time.monotonic()
            elif time.monotonic() - changed > SILENT and _is_short_of_room():
                display.update("the cluster", WAITING, 0, 0)

    with beside(watch, stop):
        yield
