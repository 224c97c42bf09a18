"""Where a verb's work is done: in this process, or on a cluster, which is started when there is something to do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from orchestrator.config import Cluster
from orchestrator.ray_settings import set_environment


@contextmanager
def executor(address: str, display: Any) -> Iterator[Any]:
    """What carries out units: this process, or trials on a cluster, which is started when there is something to do."""
    with ExitStack() as stack:

        def execute(plan: Any, units: Sequence[Any]) -> Any:
            if address == "none":
                return import_module("orchestrator.here").run_units(plan, units, display)
            set_environment(address)
            tuning = import_module("orchestrator.tuning")
            if not started:
                started.append(stack.enter_context(tuning.cluster(address)))
            return tuning.run_units(plan, units, display)

        started: list[None] = []
        yield execute


def nodes_of(address: str) -> Any:
    """What a cluster that runs has; nothing where none is asked for, or it would be started."""
    if address in ("none", "local"):
        return []
    set_environment(address)
    tuning = import_module("orchestrator.tuning")
    with tuning.cluster(address):
        return tuning.nodes()


@contextmanager
def pool_workers(address: str, display: Any, name: str, count: int) -> Iterator[Any]:
    """What makes workers for one pool: this process, or actors on a cluster."""
    if address == "none":
        here = import_module("orchestrator.here")
        yield lambda setup: here.pool_workers(setup, display, name)
        return
    set_environment(address)
    tuning = import_module("orchestrator.tuning")
    needs = Cluster(workers_per_trial=count)
    with tuning.cluster(address):
        yield lambda setup: tuning.pool_workers(setup, display, name, needs)


@contextmanager
def file_lookers(address: str) -> Iterator[Any]:
    """What looks at the files of a data set: threads of this process (None), or a cluster."""
    if address == "none":
        yield None
        return
    set_environment(address)
    with import_module("orchestrator.preparing_on_ray").on_cluster(address) as elsewhere:
        yield elsewhere


def titled(execute: Any, display: Any) -> Any:
    """The executor, with a line and bars for each stage."""
    titles = {"reference": "the fully trained reference", "initial": "cycle 0, shared by the arms", "arm": "the arms"}

    def run_titled(plan: Any, units: Sequence[Any]) -> Any:
        if not units:
            return []
        kinds = " and ".join(title for kind, title in titles.items() if any(unit.kind == kind for unit in units))
        with display.shown(f"{kinds}: {len(units)} to do"):
            return execute(plan, units)

    return run_titled
