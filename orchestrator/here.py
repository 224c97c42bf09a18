"""Units one after another in this process: no Ray, a debugger steps through everything."""

from collections.abc import Sequence

from orchestrator.display import Display
from orchestrator.errors import MtalError
from orchestrator.local_workers import LocalWorkers
from orchestrator.trials import Failure, Plan, Unit, carry_out


def run_units(plan: Plan, units: Sequence[Unit], display: Display) -> list[Failure]:
    """Carry out units in order; those that failed."""
    failures = []
    for unit in units:
        workers = LocalWorkers(
            plan.setup(unit), lambda phase, done, total, name=unit.name: display.update(name, phase, done, total)
        )
        try:
            carry_out(plan, unit, workers, lambda done: None)
        except MtalError as error:
            failures.append(Failure(unit.arm, unit.seed, str(error)))
        finally:
            workers.close()
    return failures
