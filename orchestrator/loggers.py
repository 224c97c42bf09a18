"""Cycles as they end, told to TensorBoard, MLflow or Weights & Biases: a run for each arm and seed.

The run folder stays the record of results; this only copies from it. A command that is typed again goes on in the same
runs, and a server that is away costs a warning, never a trial. No Ray in here.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Protocol

from orchestrator.components import attribute
from orchestrator.config import LoggerName
from orchestrator.cycle import Cycle, finished
from orchestrator.errors import ConfigError
from orchestrator.store import fingerprint
from orchestrator.trials import Plan, Unit
from tasks.data.files import remove_tree

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


class Run(Protocol):
    """Where the cycles of one arm under one seed go."""

    def log(self, index: int, figures: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


def check(names: tuple[LoggerName, ...]) -> None:
    """ConfigError where the package of a logger is not installed."""
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"loggers: the package {PACKAGES[name]!r} is not installed; type pip install 'mtal[{name}]', or leave "
                f"{name} out"
            )


def figures(cycle: Cycle) -> dict[str, float]:
    """All that a cycle measured, by name; what is not finite is left out."""
    found = {"mdsq": cycle.mdsq, **cycle.metrics, "forwards": cycle.forwards}
    for group, values in (("labeled", cycle.labeled), ("cost", cycle.cost), ("seconds", cycle.seconds)):
        found |= {f"{group}/{name}": float(value) for name, value in values.items()}
    return {name: float(value) for name, value in found.items() if isfinite(value)}


@contextmanager
def opened(plan: Plan) -> Iterator[Callable[[Unit], None]]:
    """A function that tells the committed cycles of a unit, each once, to every logger of the experiment."""
    names = plan.experiment.loggers
    runs: dict[tuple[str, Unit], tuple[Run, set[int]]] = {}
    lost: set[str] = set()

    def tell(unit: Unit) -> None:
        cycles = finished(plan.folder, unit.arm, unit.seed) if unit.kind == "arm" and names else []
        for name in names:
            if name not in lost and cycles:
                with _excused(name, lost):
                    if (name, unit) not in runs:
                        runs[name, unit] = (RUNS[name](plan, unit), set())
                    run, told = runs[name, unit]
                    for cycle in cycles:
                        if cycle.index not in told:
                            run.log(cycle.index, figures(cycle))
                            told.add(cycle.index)

    try:
        yield tell
    finally:
        for (name, _), (run, _) in runs.items():
            with _excused(name, lost):
                run.close()


@contextmanager
def _excused(name: str, lost: set[str]) -> Iterator[None]:
    """One warning instead of an error: training goes on without this logger."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each of these packages raises what its own stack raises
        lost.add(name)
        first = (str(error).splitlines() or [""])[0][:200]
        sys.stderr.write(
            f"warning: loggers: {name} took no more figures ({type(error).__name__}: {first}); the run goes on without "
            "it, and tells it what is missing when the command is typed again\n"
        )


def _mark(plan: Plan, unit: Unit) -> str:
    """What names a run for ever: its folder, arm and seed."""
    return fingerprint([plan.root, unit.arm, unit.seed])[:16]


class TensorBoard:
    """Event files in the run folder, written anew by each command."""

    def __init__(self, plan: Plan, unit: Unit) -> None:
        folder = plan.folder.root / "tensorboard" / unit.arm / f"seed_{unit.seed}"
        remove_tree(folder)
        self._writer = attribute("tensorboardX:SummaryWriter")(str(folder))

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, index)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, at ``MLFLOW_TRACKING_URI``."""

    def __init__(self, plan: Plan, unit: Unit) -> None:
        self._client = client = attribute("mlflow:MlflowClient")()
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", plan.experiment.name)
        known = client.get_experiment_by_name(title)
        experiment = known.experiment_id if known else client.create_experiment(title)
        mark = _mark(plan, unit)
        same = client.search_runs([experiment], f"tags.`mtal.unit` = '{mark}'")
        tags = {"mtal.unit": mark, "mlflow.runName": f"{unit.arm} seed {unit.seed}"}
        self._run = same[0] if same else client.create_run(experiment, tags=tags)
        if same:
            client.update_run(self._run.info.run_id, status="RUNNING")
        else:
            client.log_param(self._run.info.run_id, "arm", unit.arm)
            client.log_param(self._run.info.run_id, "seed", unit.seed)
        self._known = {one.step for one in client.get_metric_history(self._run.info.run_id, "mdsq")} if same else set()

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        if index in self._known:
            return
        later = [(name, value) for name, value in figures.items() if name != "mdsq"]
        for name, value in [*later, ("mdsq", figures["mdsq"])]:  # last: it says that the cycle is told
            self._client.log_metric(self._run.info.run_id, name, value, step=index)

    def close(self) -> None:
        self._client.set_terminated(self._run.info.run_id)


class Wandb:
    """A run of the project that ``WANDB_PROJECT`` names, in the group of the experiment's name."""

    def __init__(self, plan: Plan, unit: Unit) -> None:
        self._run = attribute("wandb:init")(
            project=os.environ.get("WANDB_PROJECT", "mtal"),
            group=plan.experiment.name,
            name=f"{unit.arm} seed {unit.seed}",
            id=_mark(plan, unit),
            resume="allow",
            reinit="create_new",
            dir=str(root) if isinstance(root := plan.folder.root, Path) else tempfile.gettempdir(),
            config={"arm": unit.arm, "seed": unit.seed},
        )
        self._next = int(self._run.step) if self._run.resumed else 0

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        if index >= self._next:
            self._run.log(dict(figures), step=index)

    def close(self) -> None:
        self._run.finish()


RUNS: Mapping[str, Callable[[Plan, Unit], Run]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": Wandb}
