"""What run folders hold for a study of convergence: for each arm and seed the errors while it was trained. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves import Missing, Reference, mdsq, read_experiment, reference_of
from orchestrator.errors import RunError
from orchestrator.store import RunFolder, read_json, read_table
from orchestrator.studies.convergence import Run, Weights, series_of, weights_of
from tasks.data.files import Place, leads_below

MDSQ = "mdsq"
VALIDATION, STEPS = "validation.parquet", "steps.parquet"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Study:
    """The runs that are compared. A method is an arm; of several run folders, with the run's name before it."""

    names: tuple[str, ...]  # of the runs
    cycle: int
    error: str  # "mdsq" (1 - mDSQ) or a figure of the record
    runs: tuple[Run, ...]  # the only error of each is ``error``
    folders: Mapping[tuple[str, int], Place]  # of method and seed: where the network and its records lie
    missing: tuple[Missing, ...]

    @property
    def methods(self) -> list[str]:
        """All that are compared, in the order of the arms."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def shared(self) -> list[list[str]]:
        """Methods that are one and the same training, because their arms differ in later cycles only."""
        groups: dict[str, list[str]] = {}
        for (method, _), folder in self.folders.items():
            groups.setdefault(str(folder), []).append(method)
        return [list(group) for group in dict.fromkeys(tuple(one) for one in groups.values() if len(one) > 1)]

    def weights(self, method: str) -> list[Weights]:
        """What the losses of each of its runs were multiplied by; runs without a record are left out."""
        paths = [(seed, folder / STEPS) for (name, seed), folder in self.folders.items() if name == method]
        columns = ["step", "loss", "weight"]
        found = [weights_of(read_table(path, columns), method, seed) for seed, path in paths if path.is_file()]
        return [one for one in found if len(one.steps)]


def study_of(folders: Sequence[Place], error: str = MDSQ, cycle: int = 0) -> Study:
    """The study of these runs. RunError where one is no run, kept no errors, or has no such figure."""
    names = _names(folders)
    runs, places, missing = list[Run](), dict[tuple[str, int], Place](), list[Missing]()
    for folder, name in zip(folders, names, strict=True):
        before = f"{name}/" if len(folders) > 1 else ""
        found, where, lost = _Reader(folder, error, cycle).read(before)
        runs += found
        places |= where
        missing += lost
    return Study(tuple(names), cycle, error, tuple(runs), places, tuple(missing))


def _names(folders: Sequence[Place]) -> list[str]:
    """What the runs are called; by their folders where two have one name."""
    if len({str(folder.resolve()) for folder in folders}) < len(folders):
        raise RunError("study: a run folder is given twice; expected each once: leave one out")
    names = [str(read_experiment(RunFolder(folder).experiment).get("name") or folder.name) for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


class _Reader:
    """Reads one run folder."""

    def __init__(self, folder: Place, error: str, cycle: int) -> None:
        self.run, self.error, self.cycle = RunFolder(folder), error, cycle
        self.experiment = read_experiment(self.run.experiment)
        arms, seeds = self.experiment.get("arms"), self.experiment.get("seeds")
        if not isinstance(arms, Mapping) or not arms or not isinstance(seeds, list) or not seeds:
            raise RunError(
                f"{folder}: has no {self.run.experiment.name} with arms and seeds; expected the folder of a run: run "
                "its experiment first"
            )
        self.arms, self.seeds = [str(arm) for arm in arms], [int(seed) for seed in seeds]
        raw = read_json(self.run.reference) if self.run.reference.is_file() else None
        self.reference = reference_of(raw) if isinstance(raw, Mapping) else Reference()
        self._check_direction()
        self.failures = read_json(self.run.failures) if self.run.failures.is_file() else []

    def _check_direction(self) -> None:
        if self.error == MDSQ and not self.reference.metrics:
            raise RunError(
                f"{self.run.root}: has no {self.run.reference.name}, by which mDSQ is counted; expected that of a run "
                "whose reference is made: run its experiment, or name a figure with --error"
            )
        rises = [name for name, up in self.reference.higher_is_better.items() if up]
        if any(self.error == name or self.error.startswith(f"{name}/") for name in rises):
            raise RunError(
                f"--error {self.error}: it rises as a network learns; expected a figure that falls, such as an error: "
                f"name another, or {MDSQ}, which counts 1 - mDSQ"
            )

    def read(self, before: str) -> tuple[list[Run], dict[tuple[str, int], Place], list[Missing]]:
        """The runs of this folder, where they lie, and what is missing; RunError where it is all."""
        runs, places, missing = list[Run](), dict[tuple[str, int], Place](), list[Missing]()
        for arm in self.arms:
            for seed in self.seeds:
                method = f"{before}{arm}"
                found = self._run(arm, seed, method)
                if isinstance(found, str):
                    missing.append(Missing(method, seed, found))
                else:
                    run, places[method, seed] = found
                    runs.append(run)
        if not runs:
            first = missing[0]
            raise RunError(f"{self.run.root}: {first.arm}, seed {first.seed}: {first.why}")
        return runs, places, missing

    def _run(self, arm: str, seed: int, method: str) -> tuple[Run, Place] | str:
        """A run and the folder of its network, or why there is none."""
        marker = self.run.cycle(arm, seed, self.cycle) / "cycle.json"
        if not leads_below(marker, self.run.root) or not marker.is_file():
            why = [f.get("why") for f in self.failures if (f.get("arm"), f.get("seed")) == (arm, seed)]
            return str(why[0]) if why else f"its cycle {self.cycle} is not finished; run the experiment to its end"
        folder = (self.run.root / str(read_json(marker).get("checkpoint"))).parent
        if not leads_below(folder, self.run.root):
            return "its checkpoint lies outside of the run folder"
        path = folder / VALIDATION
        if not path.is_file():
            return (
                f"no {VALIDATION} lies beside its network; expected the errors while it was trained: set "
                "train.validate_every, for example to 50, and run the experiment anew (--fresh all)"
            )
        steps, figures = series_of(read_table(path), "metric", "value")
        if not len(steps):
            return f"{VALIDATION} is empty; delete {folder.name} and run the experiment again"
        errors = self._errors(figures)
        if not np.isfinite(errors).all():
            step = steps[np.flatnonzero(~np.isfinite(errors))[0]]
            return f"{self.error} is not a number after {step:,} steps; choose another figure with --error"
        return Run(method, seed, steps, {self.error: errors}, _dead(figures)), folder

    def _errors(self, figures: Mapping[str, Array]) -> Array:
        if self.error != MDSQ:
            if self.error not in figures:
                raise RunError(
                    f"--error {self.error}: {VALIDATION} has no such figure; expected {MDSQ} or one of "
                    f"{', '.join(sorted(figures))}: name one"
                )
            return figures[self.error]
        full, higher = self.reference.metrics, self.reference.higher_is_better
        rows: list[dict[str, Any]] = [
            dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)
        ]
        try:
            return 1 - np.array([mdsq(row, full, higher) for row in rows])
        except ValueError as error:  # of a reference that learned nothing, or of other tasks
            raise RunError(f"{self.run.root}: {error}, or name a figure with --error") from error


def _dead(figures: Mapping[str, Array]) -> Array | None:
    """The share of answers without activation, where a task counts them."""
    for name, dead in figures.items():
        task, _, figure = name.rpartition(".")
        if figure == "dead" and (queries := figures.get(f"{task}.queries")) is not None:
            return dead / np.maximum(queries, 1)
    return None
