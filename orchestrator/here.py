"""Units one after another in this process: no Ray, a debugger steps through everything."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from orchestrator import loggers
from orchestrator.display import Display
from orchestrator.errors import MtalError
from orchestrator.local_workers import LocalWorkers
from orchestrator.trials import Failure, Plan, Unit, carry_out
from orchestrator.workers import Setup


def run_units(plan: Plan, units: Sequence[Unit], display: Display) -> list[Failure]:
    """Carry out units in order; those that failed."""
    failures = []
    with loggers.opened(plan) as tell:
        for unit in units:
            workers = LocalWorkers(plan.setup(unit), partial(display.update, unit.name))
            try:
                for _ in carry_out(plan, unit, workers):
                    tell(unit)
            except MtalError as error:
                failures.append(Failure(unit.arm, unit.seed, str(error)))
            finally:
                workers.close()
    return failures


@contextmanager
def pool_workers(setup: Setup, display: Display, name: str) -> Iterator[LocalWorkers]:
    """A worker in this process for the time of the block."""
    yield LocalWorkers(setup, partial(display.update, name))
