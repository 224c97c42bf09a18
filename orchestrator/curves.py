"""Learning curves of a run and what may be said about them. No torch: a report answers in a second or two."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from orchestrator.errors import RunError
from orchestrator.store import RunFolder, read_json, read_table
from tasks.data.files import Place

# first parts of column names that are no task's figures
NOT_METRICS = ("labeled", "cost", "seconds", "pseudo", "coverage", "teacher")
USUAL_MAIN = {
    "detection": "map",
    "segmentation": "miou",
    "depth": "rmse",
    "instances": "map",
    "keypoints": "oks",
    "pickup": "pickup_rate",
}
FEW_SEEDS = 6  # below it even the best sign pattern (2 of 2^n) does not reach p < 0.05


def mdsq(
    metrics: Mapping[str, float], denominators: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """The quality of a model in units of the fully trained one: 1.0 = as good, mean over the tasks.

    Hekimoglu et al. 2023, Eq. 4, for any number of tasks: m / m_full, or m_full / m where lower is better (inf for an
    error of 0). ``denominators`` holds one figure a task ("task.metric"). NaN figures give NaN.
    ValueError when a denominator is not positive or a figure is missing.
    """
    if not denominators:
        raise ValueError("mdsq: no denominators; expected one main figure of the reference for each task")
    ratios = []
    for name, full in denominators.items():
        if not full > 0:
            raise ValueError(
                f"mdsq: the fully trained {name} is {full}; expected a figure above 0: "
                "train the reference longer (reference.steps), or measure on more images"
            )
        if name not in metrics:
            raise ValueError(f"mdsq: {name} is missing; found {', '.join(sorted(metrics)) or 'nothing'}")
        own = float(metrics[name])
        if higher_is_better.get(name, True):
            ratios.append(own / full)
        else:
            ratios.append(full / own if own != 0 else math.inf)
    return sum(ratios) / len(ratios)


@dataclass(frozen=True, eq=False)
class Curve:
    """One figure of one arm over the cycles; only seeds that went through all cycles are in it."""

    arm: str
    seeds: NDArray[np.int64]  # [S] ascending
    x: NDArray[np.float64]  # [P] labeled images, mean over the seeds
    y: NDArray[np.float64]  # [S, P] NaN where the figure is not defined

    def __post_init__(self) -> None:
        if self.seeds.ndim != 1 or self.x.ndim != 1 or self.y.shape != (self.seeds.size, self.x.size):
            raise ValueError(
                f"Curve of {self.arm!r}: seeds {self.seeds.shape}, x {self.x.shape}, y {self.y.shape}; "
                "expected [S], [P], [S, P]"
            )
        if self.y.size == 0:
            raise ValueError(f"Curve of {self.arm!r}: it is empty; expected at least one seed and one cycle")
        if np.unique(self.seeds).size != self.seeds.size:
            raise ValueError(f"Curve of {self.arm!r}: a seed occurs twice in {self.seeds.tolist()}")

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the seeds, ``[P]``; NaN where any seed is NaN."""
        return np.asarray(self.y.mean(axis=0))

    @property
    def sd(self) -> NDArray[np.float64]:
        """Standard deviation over the seeds with n - 1, ``[P]``; NaN with one seed."""
        if self.seeds.size < 2:
            return np.full(self.x.size, np.nan)
        return np.asarray(self.y.std(axis=0, ddof=1))

    @property
    def buys(self) -> bool:
        """Whether the labels grow over the cycles (a control without new labels has a constant x)."""
        return bool(self.x[-1] > self.x[0])

    def area(self) -> NDArray[np.float64]:
        """Area under the budget curve over its own range of labels, ``[S]``: a mean height; NaN if x never grows."""
        if not self.buys:
            return np.full(self.seeds.size, np.nan)
        return np.asarray(np.trapezoid(self.y, self.x, axis=1) / (self.x[-1] - self.x[0]))

    def labels_to_reach(self, level: float) -> float:
        """How many labeled images the mean curve first needs for ``level``, linear between cycles; NaN if never."""
        mean = self.mean
        for i, height in enumerate(mean):
            if height >= level:
                if i == 0 or height == mean[i - 1] or not np.isfinite(mean[i - 1]):
                    return float(self.x[i])
                share = (level - mean[i - 1]) / (height - mean[i - 1])
                return float(self.x[i - 1] + share * (self.x[i] - self.x[i - 1]))
        return math.nan


def column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A numeric column as float64, NaN for null; ValueError when it is absent."""
    if name not in table.column_names:
        raise ValueError(f"cycles.parquet: no column {name!r}; found {', '.join(table.column_names)}")
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def labeled(table: pa.Table, metric: str = "") -> NDArray[np.float64]:
    """Labeled images of each row: of the metric's own task, else the mean over the tasks of the row's arm."""
    names = [n for n in table.column_names if n.startswith("labeled.")]
    if not names:
        raise ValueError(f"cycles.parquet: no column 'labeled.<task>'; found {', '.join(table.column_names)}")
    each = np.array([column(table, name) for name in names])
    known = np.isfinite(each)
    mean = np.where(known, each, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    own = f"labeled.{metric.partition('.')[0]}"
    return np.asarray(np.where(known[names.index(own)], each[names.index(own)], mean) if own in names else mean)


def curves(table: pa.Table, metric: str, cycles: Mapping[str, int] | None = None) -> list[Curve]:
    """A curve for each arm that has a complete seed, arms in order of appearance.

    A seed is complete when it has every cycle 0..K: K is ``cycles[arm]`` where given, else the furthest that any seed
    of the arm came. Incomplete seeds are left out here and listed by ``Results.missing``.
    """
    arms = table.column("arm").to_pylist()
    seed, cycle = column(table, "seed").astype(np.int64), column(table, "cycle").astype(np.int64)
    x, y = labeled(table, metric), column(table, metric)
    found = []
    for arm in dict.fromkeys(arms):
        mine = np.flatnonzero(np.array([a == arm for a in arms]))
        last = (cycles or {}).get(arm, int(cycle[mine].max()))
        order = mine[np.lexsort((cycle[mine], seed[mine]))]
        rows = [order[(seed[order] == s) & (cycle[order] <= last)] for s in np.unique(seed[order])]
        complete = [r for r in rows if np.array_equal(cycle[r], np.arange(last + 1))]
        if complete:
            index = np.stack(complete)
            found.append(Curve(arm, seed[index[:, 0]], x[index].mean(axis=0), y[index]))
    return found


@dataclass(frozen=True)
class Reference:
    """The fully trained model: its figures are the denominators of mDSQ."""

    metrics: Mapping[str, float] = field(default_factory=dict)  # means over the seeds, one main figure a task
    per_seed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    main: Mapping[str, str] = field(default_factory=dict)  # task -> name of its main figure
    steps: int | None = None
    seeds: tuple[int, ...] = ()
    split: str = ""  # the split that all figures of the run were measured on


@dataclass(frozen=True)
class Missing:
    """A trial without a full curve, and why."""

    arm: str
    seed: int
    why: str


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report reads of a run folder, except galleries."""

    folder: Place
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    reference: Reference | None
    table: pa.Table
    failures: tuple[Missing, ...] = ()

    @staticmethod
    def load(folder: Place) -> "Results":
        """Results of a finished, unfinished or partly failed run; RunError when the folder is not a run."""
        run = RunFolder(folder)
        if not run.cycles.is_file():
            raise RunError(f"{folder}: no {run.cycles.name}; expected the folder of a run: run its experiment first")
        table = read_table(run.cycles)
        _check_table(table, run.cycles)
        reference = read_json(run.reference) if run.reference.is_file() else None
        failures = read_json(run.failures) if run.failures.is_file() else []
        return Results(
            folder=folder,
            experiment=read_experiment(run.experiment),
            environment=(read_json(run.environment) or {}) if run.environment.is_file() else {},
            reference=reference_of(reference) if reference else None,
            table=table,
            failures=tuple(
                Missing(str(f.get("arm", "?")), int(f.get("seed", -1)), str(f.get("why", "no reason was recorded")))
                for f in failures
            ),
        )

    @property
    def name(self) -> str:
        return str(self.experiment.get("name") or self.folder.resolve().name)

    @property
    def arms(self) -> list[str]:
        """Names of all arms: those of the experiment in its order, then any other that left rows."""
        planned = [str(arm) for arm in self.experiment.get("arms") or {}]
        return list(dict.fromkeys([*planned, *self.table.column("arm").to_pylist()]))

    @property
    def seeds(self) -> list[int]:
        planned = [int(s) for s in self.experiment.get("seeds") or []]
        return sorted({*planned, *self.table.column("seed").to_pylist()})

    @property
    def tasks(self) -> list[str]:
        """Task names, in the order of the experiment."""
        planned = [str(t) for t in self.experiment.get("tasks") or {}]
        own = [n.partition(".")[0] for n in self.metrics if "." in n]
        return list(dict.fromkeys([*(t for t in planned if t in own), *own]))

    @property
    def metrics(self) -> list[str]:
        """Names of all columns that measure quality: "mdsq" and "task.figure"."""
        names = [n for n in self.table.column_names if n == "mdsq" or "." in n]
        return [n for n in names if n.partition(".")[0] not in NOT_METRICS]

    @property
    def main_metrics(self) -> list[str]:
        """The main figure of each task, e.g. ``["detection.map", "segmentation.miou"]``."""
        main = {**USUAL_MAIN, **(self.reference.main if self.reference else {})}
        names = [f"{task}.{main[task]}" for task in self.tasks if task in main]
        return [n for n in names if n in self.table.column_names]

    @property
    def headline(self) -> str | None:
        """The figure that arms are compared by: mDSQ, else the first task's main figure; None without any figure."""
        return next((n for n in ["mdsq", *self.main_metrics, *self.metrics] if n in self.metrics), None)

    @property
    def pool(self) -> float:
        """Images in the pool (NaN when nothing was measured)."""
        total = column(self.table, "total") if "total" in self.table.column_names else np.empty(0)
        return float(total.max()) if total.size else math.nan

    @property
    def baseline(self) -> str | None:
        """The arm that others are compared with: the one called random, else the first."""
        return "random" if "random" in self.arms else next(iter(self.arms), None)

    def setting(self, path: str, arm: str | None = None) -> Any:
        """A value of the experiment by its dotted path, as the arm overrides it; None where there is none."""
        overrides = (self.experiment.get("arms") or {}).get(arm) if arm is not None else None
        for level in (overrides, self.experiment):
            if isinstance(level, Mapping):
                value = level[path] if path in level else _walk(level, path.split("."))
                if value is not None:
                    return value
        return None

    def is_shown(self, arm: str, metric: str) -> bool:
        """Whether the arm's network is shown what this figure measures it on; of mDSQ, whether that is so of a task."""
        inputs, tasks = (self.setting(name, arm) for name in ("model.inputs", "tasks"))
        shown = {str(task) for task in tasks or ()} & {str(name) for name in inputs or ()}
        return bool(shown) if metric == "mdsq" else metric.partition(".")[0] in shown

    def planned_cycles(self) -> dict[str, int]:
        """How many purchases each arm was to make, where the experiment says it."""
        planned = {arm: self.setting("active.cycles", arm) for arm in self.arms}
        return {arm: int(n) for arm, n in planned.items() if isinstance(n, int)}

    def curves(self, metric: str) -> list[Curve]:
        """The complete curves of a figure, arms in the order of the experiment."""
        found = {c.arm: c for c in curves(self.table, metric, self.planned_cycles())}
        return [found[arm] for arm in self.arms if arm in found]

    @property
    def missing(self) -> list[Missing]:
        """Every planned (arm, seed) that has no full curve, with the reason that was recorded or what was found."""
        metric = self.headline
        complete = {c.arm: set(c.seeds.tolist()) for c in self.curves(metric)} if metric else {}
        why = {(f.arm, f.seed): f.why for f in self.failures}
        rows = list(zip(self.table.column("arm").to_pylist(), self.table.column("seed").to_pylist(), strict=True))
        cells = dict.fromkeys([*((arm, seed) for arm in self.arms for seed in self.seeds), *why])
        lost = []
        for arm, seed in cells:
            if seed not in complete.get(arm, set()):
                found = f"{rows.count((arm, seed))} of {self._points(arm)} cycles were found"
                lost.append(Missing(arm, seed, why.get((arm, seed), f"not finished: {found}")))
        return lost

    def _points(self, arm: str) -> str:
        planned = self.planned_cycles().get(arm)
        return "?" if planned is None else str(planned + 1)


def _walk(level: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(level, Mapping) or part not in level:
            return None
        level = level[part]
    return level


def read_experiment(path: Place) -> Mapping[str, Any]:
    """The experiment of a run folder as plain data; empty where it is not there, RunError where it is damaged."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: is not readable as YAML; delete it and type the run's command again") from error
    return value if isinstance(value, Mapping) else {}


def reference_of(value: Mapping[str, Any]) -> Reference:
    """What ``reference.json`` holds."""

    def figures(row: Mapping[str, Any]) -> dict[str, float]:
        return {str(k): math.nan if v is None else float(v) for k, v in row.items() if not isinstance(v, Mapping)}

    return Reference(
        metrics=figures(value.get("metrics") or {}),
        per_seed={str(s): figures(row) for s, row in (value.get("per_seed") or {}).items()},
        higher_is_better={str(k): bool(v) for k, v in (value.get("higher_is_better") or {}).items()},
        main={str(k): str(v) for k, v in (value.get("main") or {}).items()},
        steps=value.get("steps"),
        seeds=tuple(int(s) for s in value.get("seeds") or ()),
        split=str(value.get("split") or ""),
    )


def _check_table(table: pa.Table, path: Place) -> None:
    absent = [n for n in ("arm", "seed", "cycle") if n not in table.column_names]
    if absent:
        raise RunError(
            f"{path}: no column {', '.join(absent)}; found {', '.join(table.column_names) or 'none'}; "
            "delete this file and type the run's command again"
        )
    counts = Counter(zip(*(table.column(n).to_pylist() for n in ("arm", "seed", "cycle")), strict=True))
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise RunError(
            f"{path}: arm {twice[0][0]!r}, seed {twice[0][1]}, cycle {twice[0][2]} occurs twice; expected one row; "
            "delete this file and type the run's command again"
        )
