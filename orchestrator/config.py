"""One YAML is one complete experiment. Its keys are the fields below, in the same order."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.active import Active, check_start, only
from orchestrator.components import Component, component_of, guess, validate
from orchestrator.errors import ConfigError
from orchestrator.teacher import Teacher, check_teacher
from tasks.recipe import Recipe

LoggerName = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True)
class Train:
    """How one model is fitted."""

    steps: int  # optimiser steps of a cycle
    first_steps: int | None = None  # of cycle 0; None = the same
    batch: int = 8  # images a step
    rate: float = 4.0e-3  # peak learning rate
    schedule: Literal["onecycle", "poly", "constant"] = "onecycle"  # poly: 1 - (t/T)^0.9
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 1.0e-4
    clip: float | None = 10.0  # largest gradient norm
    flip: float = 0.5  # probability of a mirrored image
    zoom: float = 0.0  # probability of a random crop, enlarged
    zoom_to: float = 1.5  # by at most this factor
    colour: float = 0.0  # how much brightness, contrast and saturation may change: 0.25 = by up to a quarter
    augment: Recipe | None = None  # all changes of training images, in place of flip, zoom and colour
    evaluations: int = 1  # checkpoints of which the best on the validation split is kept; 1 = the last, without a look
    validate_every: int | None = None  # steps between figures on the validation split, kept in validation.parquet
    checkpoint_steps: int = 200  # a kill loses at most these many steps
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: int = 1  # workers of a trial that train together, each on its part of every batch; see ``parts``
    accumulate: int = 1  # micro-batches that a process makes of its part, one after another, to save memory

    @property
    def parts(self) -> int:
        """Into how many equal parts a batch is cut. Losses are means over all of it, whatever the cut.

        Batch norm sees a part alone, and its running statistics change by the mean over the parts: networks without
        it (GroupNorm) learn what they learn from the uncut batch, others something close.
        """
        return self.processes * self.accumulate

    @property
    def chooses(self) -> bool:
        """Whether a fit keeps the best of several checkpoints, by mDSQ, which divides by the reference's figures."""
        return self.evaluations > 1

    def __post_init__(self) -> None:
        _positive(self, "steps", "batch", "rate", "evaluations", "checkpoint_steps", "processes", "accumulate")
        if self.batch % self.parts:
            raise ValueError(
                f"batch is {self.batch}; expected a multiple of processes x accumulate = {self.processes} x "
                f"{self.accumulate}, so that all parts are equal: change one of them"
            )
        _share(self, "flip", "zoom", "colour")
        if self.augment is not None and (self.flip, self.zoom, self.colour) != (0.5, 0.0, 0.0):
            raise ValueError(
                "augment is set beside flip, zoom or colour; expected one way: leave those out, and say flip, scale, "
                "crop and photometric under augment"
            )
        if self.augment is not None and self.augment.size is not None:
            raise ValueError(f"augment.size is {list(self.augment.size)}; expected none in training: set data.size")
        if self.zoom_to < 1:
            raise ValueError(f"zoom_to is {self.zoom_to}; expected 1 or more")
        for name in ("first_steps", "validate_every"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} is {value}; expected a positive number of steps")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; expected a norm of more than 0, or null for none")
        _not_negative(self, "weight_decay")


@dataclass(frozen=True)
class Reference:
    """The fully trained network: its metrics are the denominators of mDSQ."""

    steps: int
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _positive(self, "steps")
        _distinct(self, "seeds")


@dataclass(frozen=True)
class Cluster:
    """How the work is cut and what a trial asks of the cluster."""

    shard: int = 512  # images a unit of scoring; the same for any number of workers
    score_batch: int = 16  # images a forward pass when scoring and evaluating
    workers_per_trial: int = 1  # processes that score and evaluate; the first train.processes of them train
    cpus_per_worker: int = 1  # also torch's threads in each process
    gpus_per_worker: float = 0.0
    cache_mib: int = 2048  # decoded images that a worker keeps in memory
    max_failures: int = 3  # restarts of a trial, or of a worker, after its process died
    wait_minutes: float = 0.0  # that a run waits for nodes when the cluster has no room for one trial

    def __post_init__(self) -> None:
        _positive(self, "shard", "score_batch", "workers_per_trial", "cpus_per_worker")
        _not_negative(self, "gpus_per_worker", "cache_mib", "max_failures", "wait_minutes")


@dataclass(frozen=True)
class Gallery:
    """Pictures of what was picked and why."""

    picks: int = 6  # per purchase; 0 = none

    def __post_init__(self) -> None:
        if self.picks < 0:
            raise ValueError(f"picks is {self.picks}; expected 0 or more pictures")


@dataclass(frozen=True)
class Experiment:
    """Everything a run is made from."""

    name: str
    data: Component
    tasks: Mapping[str, Mapping[str, Any]]
    model: Component
    train: Train
    active: Active
    reference: Reference
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    weighting: Component = field(default_factory=lambda: Component("equal"))
    strategy: Component = field(default_factory=lambda: Component("random"))  # an arm's; seldom set for all
    teacher: Teacher | None = None  # labels for the arm's network what people have not; likewise
    cluster: Cluster = field(default_factory=Cluster)
    gallery: Gallery = field(default_factory=Gallery)
    loggers: tuple[LoggerName, ...] = ()  # told of each cycle as it ends, beside the run folder
    output: str = "runs"

    def __post_init__(self) -> None:
        _distinct(self, "seeds")
        if not WORD.fullmatch(self.name) or self.name == "data":
            raise ValueError(f"name is {self.name!r}; expected a word that can name a folder, and not 'data'")
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one, such as detection: {}")
        _check_group(self.train, self.cluster)
        check_start(self.active.initial, self.tasks)
        check_teacher(self.teacher, self.tasks)

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


COMPONENTS = ("data", "model", "weighting", "strategy")
WORD = re.compile(r"\w[\w.+=@-]*")  # letters, digits and a few signs: safe as a folder, in a table and in a shell
RESERVED = {
    "initial",
    "reference",
    "pools",
    "data",
    "errors",
    "tensorboard",
    "wandb",
}  # names of folders beside the arms


def _positive(section: Any, *names: str) -> None:
    for name in names:
        if not 0 < getattr(section, name) < math.inf:
            raise ValueError(f"{name} is {getattr(section, name)}; expected more than 0, and finite")


def _not_negative(section: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(section, name) < math.inf:
            raise ValueError(f"{name} is {getattr(section, name)}; expected 0 or more, and finite")


def _check_group(train: Train, cluster: Cluster) -> None:
    """ValueError where a trial has no room for the processes that train together."""
    if train.processes > cluster.workers_per_trial:
        raise ValueError(
            f"train.processes is {train.processes}; expected at most cluster.workers_per_trial, which is "
            f"{cluster.workers_per_trial}: raise that, or train with fewer"
        )
    if train.processes > 1 and 0 < cluster.gpus_per_worker < 1:
        raise ValueError(
            f"train.processes is {train.processes} and cluster.gpus_per_worker {cluster.gpus_per_worker:g}; expected a "
            "whole GPU for each process that trains with others: set it to 1, or train with one process"
        )


def _share(section: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(section, name) <= 1:
            raise ValueError(f"{name} is {getattr(section, name)}; expected 0 to 1")


def _distinct(section: Any, name: str) -> None:
    values = getattr(section, name)
    if not values or len(set(values)) != len(values):
        raise ValueError(f"{name} is {list(values)}; expected at least one number, each once")


# ---- reading --------------------------------------------------------------------------------------------------------


def load(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a YAML file, or of one of ours by its bare name; ``--set`` texts are applied on top."""
    path = find(source)
    experiment = experiment_of(read_yaml(path, overrides), path.name)
    if not experiment.arms:
        raise ConfigError(f"{path.name}: arms is empty; expected at least one, such as random: {{strategy: random}}")
    return experiment


def find(source: str | Path) -> Path:
    """The file behind a path or behind the bare name of a shipped configuration."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = Path(str(files("configs"))) / f"{source}.yaml"
    if "/" not in str(source) and shipped.is_file():
        return shipped
    names = sorted(p.stem for p in Path(str(files("configs"))).glob("*.yaml"))
    raise ConfigError(
        f"{source}: no such file, and no shipped configuration of that name; give the path of a YAML (shipped are "
        f"{', '.join(names)})"
    )


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain mapping of a YAML file with overrides applied."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"{path.name}:{line} is not YAML: {problem}; correct the line") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path.name}: is not a text file in UTF-8; expected a YAML experiment: give another"
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path.name}: found {_kind(tree)}; expected a mapping of keys such as name, data, train: correct the file"
        )
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set {text}: found no '='; expected key=value such as train.steps=100")
        try:
            put(tree, key, yaml.safe_load(value), f"--set {text}")
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not YAML; quote it") from error
    return tree


def _kind(value: Any) -> str:
    return {"NoneType": "nothing", "str": "a text"}.get(type(value).__name__, type(value).__name__)


def put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key; a mapping is merged into a mapping, unless it names another component."""
    *parents, last = key.split(".")
    for parent in parents:
        inner = tree.get(parent, {})
        if isinstance(inner, str) and parent in COMPONENTS:
            inner = {"name": inner}
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{where}: {parent!r} holds {inner!r}, which has no keys; set it as a whole")
        tree[parent] = dict(inner)
        tree = tree[parent]
    old = tree.get(last)
    if (
        isinstance(old, Mapping)
        and isinstance(value, Mapping)
        and value.get("name", old.get("name")) == old.get("name")
    ):
        value = {**old, **value}
    tree[last] = value


def experiment_of(tree: Mapping[str, Any], where: str) -> Experiment:
    """An Experiment from plain data; ConfigError says where, what was found, what was expected, what to do."""
    plain = dict(tree)
    for key in COMPONENTS:
        if key in plain:
            plain[key] = dataclasses.asdict(component_of(plain[key], f"{where}: {key}"))
    for key in ("tasks", "arms"):
        if key in plain:
            plain[key] = {str(k): ({} if v is None else v) for k, v in _mapping(plain[key], f"{where}: {key}").items()}
    experiment: Experiment = validate(Experiment, plain, f"{where}: ")
    bad = RESERVED & set(experiment.arms) | {a for a in experiment.arms if not WORD.fullmatch(a) or "." in a}
    if bad:
        raise ConfigError(
            f"{where}: arms: {sorted(bad)[0]!r} cannot name an arm; choose a word of letters, digits, - and _ that is "
            f"not one of {', '.join(sorted(RESERVED))}"
        )
    for name in experiment.arms:
        arm(experiment, name, where)
    return experiment


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: found {value!r}; expected a mapping")
    return value


def plain(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment as YAML data, every default written out; ``experiment_of`` reads it back equal."""
    tree = dataclasses.asdict(experiment)
    for key in COMPONENTS:
        tree[key] = {"name": tree[key]["name"], **tree[key]["options"]}
    for key in ("seeds", "loggers"):
        tree[key] = list(tree[key])
    tree["reference"]["seeds"] = list(tree["reference"]["seeds"])
    if experiment.teacher is not None:
        tree["teacher"] = experiment.teacher.plain()
    return tree


def arm(experiment: Experiment, name: str, where: str = "arms") -> Experiment:
    """The experiment of one arm: the whole with the arm's overrides applied, and no arms of its own."""
    if name not in experiment.arms:
        raise ConfigError(f"{where}: no arm is called {name!r}; {guess(name, experiment.arms)}")
    tree = {**plain(experiment), "arms": {}}
    for key, value in experiment.arms[name].items():
        if key.split(".")[0] in ("name", "arms", "seeds", "reference", "output", "data", "cluster"):
            raise ConfigError(
                f"{where}: arms.{name}.{key}: an arm cannot change that, because arms are compared on the same data, "
                "seeds and reference; write another experiment"
            )
        if key == "tasks" and isinstance(value, list):
            _keep_tasks(tree, value, f"{where}: arms.{name}.tasks")
        else:
            put(tree, key, value, f"{where}: arms.{name}.{key}")
    return experiment_of(tree, f"{where}: arms.{name}")


def _keep_tasks(tree: dict[str, Any], names: Sequence[str], where: str) -> None:
    """Leave only these tasks of an experiment, and their labels at the start; ConfigError for what it does not have."""
    for name in names:
        if name not in tree["tasks"]:
            raise ConfigError(f"{where}: the experiment has no task {name!r}; {guess(str(name), tree['tasks'])}")
    tree["tasks"] = {name: tree["tasks"][name] for name in names}
    tree["active"] = {**tree["active"], "initial": only(tree["active"]["initial"], names)}
