"""A whole run: prepare the data, check everything, then reference → cycle 0 → arms, and the record of it all."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from orchestrator import identity, loggers
from orchestrator.components import Component, make
from orchestrator.config import Experiment, arm, plain
from orchestrator.cycle_rows import write_cycles
from orchestrator.errors import ConfigError, RunError
from orchestrator.preparing import Elsewhere, Report, prepare
from orchestrator.report import write_report
from orchestrator.store import RunFolder, commit, fingerprint, read_json, write_json
from orchestrator.teaching import check_inputs, check_teaching
from orchestrator.trials import Failure, Plan, Unit, initial_folder, is_done
from tasks.base import Metric, Model, Task, sensors_of
from tasks.classes import ClassMap
from tasks.data.checks import Look
from tasks.data.files import Place, place, remove_tree
from tasks.data.known_labels import known_labels
from tasks.data.manifest import Manifest

Executor = Callable[[Plan, Sequence[Unit]], list[Failure]]


# ---- before ---------------------------------------------------------------------------------------------------------


Told = Callable[[str, str, int, int], None]  # unit, phase, done, total (0 = not known)


def prepare_data(
    experiment: Experiment,
    told: Told,
    on_error: Literal["refuse", "skip"] = "refuse",
    folder: Place | None = None,
    look: Look = "pixels",
    elsewhere: Elsewhere | None = None,
) -> tuple[Place, Report]:
    """Check a data set and write its manifest; the folder and what was found. ConfigError when it is refused."""
    adapter = make("data", experiment.data, "data")
    folder = folder or _data_folder(experiment)
    if why := absent_data(experiment.data):
        raise ConfigError(why)
    with _data_faults(folder):
        name = experiment.data.name
        report = prepare(
            adapter, folder, on_error, lambda done: told(name, "prepare", done, 0), look=look, elsewhere=elsewhere
        )
    return folder.absolute(), report


@contextmanager
def _data_faults(folder: Place) -> Iterator[None]:
    """What the data rooms find wrong with a data set, as an error that people can mend."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the disk's own words: the command line adds what to do
            error.filename = error.filename or str(folder)
            raise
        raise ConfigError(f"data: {error}") from error


def _prepared(experiment: Experiment, told: Told) -> Place:
    """The folder of an experiment's prepared data; made when it is not there."""
    folder = _data_folder(experiment)
    if not (folder / "manifest.parquet").is_file():
        prepare_data(experiment, told)
    return folder.absolute()


def prepared(experiment: Experiment) -> Manifest | None:
    """The manifest of an experiment's data, where they are prepared."""
    folder = _data_folder(experiment)
    if not (folder / "manifest.parquet").is_file():
        return None
    with _data_faults(folder):
        return Manifest.open(folder)


def absent_data(data: Component) -> str:
    """What to do about a data set that is not where the configuration says; "" where it is."""
    root = data.options.get("root")
    if not isinstance(root, str) or "://" in root or Path(root).is_dir():
        return ""
    return (
        f"data: {root}: no such folder; expected the data set {data.name!r} in it: get it, and set data.root to where "
        f"it lies (--set data.root=/path/to/it)"
    )


def _output(experiment: Experiment) -> Place:
    """Where all runs lie. ConfigError where that is no place."""
    try:
        return place(experiment.output)
    except ValueError as error:
        raise ConfigError(f"output: {error}") from error


def _data_folder(experiment: Experiment) -> Place:
    return _output(experiment) / "data" / f"{experiment.data.name.split(':')[-1]}-{_data_mark(experiment.data)}"


def _data_mark(data: Component) -> str:
    code = identity.code_fingerprint(("tasks/data",))
    return fingerprint([data.name, data.options, identity.plugin_fingerprint("data", data), code])[:8]


def planned(experiment: Experiment, told: Told, paths: Sequence[str] = ()) -> Plan:
    """The plan of a run after every check that can be made before the first step; ConfigError or RunError else."""
    check(experiment)
    folder = _prepared(experiment, told)
    with _data_faults(folder):
        manifest = Manifest.open(folder)
        counts = {split: manifest.count(split) for split in ("train", "val", "test")}
    needed = {"train": "the pool"}
    if any(one.train.chooses for one in (experiment, *(arm(experiment, name) for name in experiment.arms))):
        needed["val"] = "to choose checkpoints by"
    elif not counts["test"]:
        needed["val"] = "to measure on, for there is no test split"
    for split, what in needed.items():
        if not counts[split]:
            raise ConfigError(
                f"data: there is no image of the split {split!r} ({what}); expected at least one: change the splits of "
                "the data set"
            )
    _check_sellable(experiment, manifest)
    return Plan(
        experiment,
        str((_output(experiment) / experiment.name).absolute()),
        str(manifest.base),
        identity.code_fingerprint(),
        tuple(paths),
        str(identity.HOME),
    )


def _check_sellable(experiment: Experiment, manifest: Manifest) -> None:
    """ConfigError where an arm may buy labels from the data set that this does not have."""
    selling = [own for own in (arm(experiment, name) for name in experiment.arms) if own.active.reveals]
    tasks = sorted({task for own in selling for task in own.tasks})
    for task, known in zip(tasks, known_labels(manifest, "train", tasks).T if tasks else (), strict=True):
        if not known.all():
            raise ConfigError(
                f"data: {int((~known).sum()):,} of the pool's {len(known):,} images have no {task} label, and the "
                "data set is to reveal it; expected labels of all, or people who make them: set "
                "active.oracle=label_studio, or leave these images out"
            )


def check(experiment: Experiment) -> None:
    """Build every component of every arm, and see that strategies read only what their model provides.

    The data are looked at only where their classes stand in them.
    """
    loggers.check(experiment.loggers)
    classes, adapter = classes_of(experiment.data), make("data", experiment.data, "data")
    for name in experiment.arms:
        own = arm(experiment, name)
        place = f"arms.{name}"
        for task, options in own.tasks.items():
            make("task", Component(task, options), f"{place}: tasks.{task}")
        weighting = make("weighting", own.weighting, f"{place}: weighting")
        strategy = make("strategy", own.strategy, f"{place}.strategy")
        model = make("model", own.model, f"{place}: model", classes, tuple(own.tasks))
        _check_model(model, own, place)
        if own.teacher is not None:
            reads = sensors_of(model)
            _check_model(check_teaching(own.teacher, own.model, own.tasks, classes, place, reads), own, place, False)
        _check_shared(weighting, model, own, place)
        for index in range(max(own.active.cycles, 1)):
            active = strategy.at(index)
            needs = {*active.reads, *(head for view in active.views for head in view.reads)}
            for need in sorted(needs - set(model.provides)):
                raise ConfigError(
                    f"{place} reads {need!r}, which the model does not provide (it provides "
                    f"{', '.join(sorted(model.provides))}); {_remedy(need)}"
                )
        size, stride = adapter.size, getattr(model, "stride", None)
        if size and stride and (size[0] % stride or size[1] % stride):
            raise ConfigError(
                f"data.size: found {list(size)}; expected multiples of {stride}, the stride of the model "
                f"{own.model.name!r}: choose such a size"
            )


def classes_of(data: Component) -> ClassMap:
    """The classes of a data set; ConfigError where they cannot be known."""
    adapter = make("data", data, "data")
    try:
        with _data_faults(Path(data.name)):
            found: ClassMap = adapter.classes()
    except ConfigError as error:
        raise ConfigError(absent_data(data) or str(error)) from error
    return found


def _check_model(model: Any, own: Experiment, place: str, buys: bool = True) -> None:
    if not isinstance(model, Model):
        raise ConfigError(
            f"{place}: the model {own.model.name!r} lacks provides, forward or predict; a model needs all three"
        )
    for task in own.tasks:
        if task not in model.provides:
            raise ConfigError(
                f"{place}: the model {own.model.name!r} has no head for the task {task!r}; remove the task or choose "
                "another model"
            )
    check_inputs(sensors_of(model), tuple(own.tasks), buys and own.active.buys, place, own.model.name)


def _check_shared(weighting: Any, model: Any, own: Experiment, place: str) -> None:
    if getattr(weighting, "reads_shared", False) and not getattr(model, "shared", ()):
        raise ConfigError(
            f"{place}: the weighting {own.weighting.name!r} compares gradients of shared parameters, and the model "
            f"{own.model.name!r} has no attribute 'shared' that names them; add it, or choose another weighting"
        )


def _remedy(need: str) -> str:
    return "add model.loss_prediction" if need == "predicted_loss" else "choose another strategy or model"


# ---- the run --------------------------------------------------------------------------------------------------------


def run(plan: Plan, execute: Executor, fresh: Sequence[str] = ()) -> tuple[Place, list[Failure]]:
    """Carry out a plan, resuming what is there; the report and the units that failed."""
    folder, experiment = plan.folder, plan.experiment
    with folder.locked():
        _make_fresh(folder, experiment, fresh)
        _refuse_changes(plan)
        folder.write_experiment(plain(experiment))
        manifest = Manifest.open(place(plan.manifest))
        images = {split: manifest.count(split) for split in ("train", "val", "test")}
        write_json(folder.environment, identity.environment(images, experiment.data, _gpu()))
        failures = _shared_fits(plan, execute)
        trials = [Unit("arm", name, seed) for seed in experiment.seeds for name in experiment.arms]
        failed = {(f.arm, f.seed) for f in failures}
        with loggers.opened(plan) as tell:
            for unit in trials:
                tell(unit)
        open_units = [u for u in trials if not is_done(plan, u) and (u.arm, u.seed) not in failed]
        failures += execute(plan, open_units)
        write_json(folder.failures, [asdict(f) for f in failures])
        if not len(write_cycles(plan)):
            _require(failures)
        return write_report(folder.root), failures


def fully_trained(plan: Plan, execute: Executor) -> tuple[Place, Mapping[str, float]]:
    """model.pt and the figures of the reference's first seed, as ``run`` makes them; RunError where that fails."""
    folder, experiment = plan.folder, plan.experiment
    with folder.locked():
        _refuse_changes(plan)
        folder.write_experiment(plain(experiment))
        unit = Unit("reference", "", experiment.reference.seeds[0])
        _require(execute(plan, [] if is_done(plan, unit) else [unit]))
    inputs = identity.reference_inputs(experiment, Manifest.open(place(plan.manifest)).fingerprint)
    made = folder.reference_fit(fingerprint(inputs), unit.seed)
    return made / "model.pt", read_json(made / "fit.json")["metrics"]


def _gpu() -> str | None:
    """The GPU that this command sees; the trials of a cluster may run on others."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _require(failures: Sequence[Failure]) -> None:
    if failures:
        raise RunError(failures[0].why)


def _shared_fits(plan: Plan, execute: Executor) -> list[Failure]:
    """The reference and every cycle 0, together where cycle 0 does not wait for the reference; the arms that failed."""
    references = [Unit("reference", "", seed) for seed in plan.experiment.reference.seeds]
    first = [*references, *_initial_units(plan, choosing=False)]
    failures = execute(plan, [u for u in first if not is_done(plan, u)])
    _require([failure for failure in failures if not failure.arm])
    _freeze_reference(plan)
    _refuse_changes(plan)
    failures += execute(plan, [u for u in _initial_units(plan, choosing=True) if not is_done(plan, u)])
    return _spread(plan, failures)


def _initial_units(plan: Plan, choosing: bool) -> list[Unit]:
    """One unit for each cycle 0 that differs: the first arm that needs it stands for all."""
    seen: dict[tuple[str, int], Unit] = {}
    for seed in plan.experiment.seeds:
        for name in plan.experiment.arms:
            if arm(plan.experiment, name).train.chooses == choosing:
                seen.setdefault((str(initial_folder(plan, name, seed)), seed), Unit("initial", name, seed))
    return list(seen.values())


def _spread(plan: Plan, failures: Sequence[Failure]) -> list[Failure]:
    """A failed cycle 0 fails every arm that shares it."""
    return [
        Failure(name, failure.seed, failure.why)
        for failure in failures
        for name in plan.experiment.arms
        if initial_folder(plan, name, failure.seed) == initial_folder(plan, failure.arm, failure.seed)
    ]


def _freeze_reference(plan: Plan) -> None:
    """The denominators of mDSQ: test metrics, mean over the reference's seeds, frozen in the run folder."""
    if plan.folder.reference.is_file():
        return
    experiment = plan.experiment
    trial = plan.trial(Unit("reference", "", experiment.reference.seeds[0]))
    inputs = identity.reference_inputs(experiment, trial.manifest.fingerprint)
    each = {
        str(seed): read_json(plan.folder.reference_fit(fingerprint(inputs), seed) / "fit.json")["metrics"]
        for seed in experiment.reference.seeds
    }
    main, higher = _main_metrics(experiment, trial.manifest)
    means = {name: statistics.fmean(metrics[name] for metrics in each.values()) for name in higher}
    for name, value in means.items():
        if not value > 0 or math.isnan(value):
            raise RunError(
                f"reference: {name} of the fully trained network is {value:.4g} on {trial.split}; expected more than "
                "0, because mDSQ divides by it: raise reference.steps or look at the data"
            )
    commit(
        plan.folder.reference,
        {
            "inputs": inputs, "metrics": means, "per_seed": each, "higher_is_better": higher, "main": main,
            "steps": experiment.reference.steps, "seeds": list(experiment.reference.seeds), "split": trial.split,
        },
    )  # fmt: skip


def _main_metrics(experiment: Experiment, manifest: Manifest) -> tuple[dict[str, str], dict[str, bool]]:
    main, higher = {}, {}
    for name, options in experiment.tasks.items():
        task: Task = make("task", Component(name, options), f"tasks.{name}")
        metric: Metric = task.metric(manifest.classes)
        main[name] = metric.main
        higher[f"{name}.{metric.main}"] = metric.higher_is_better
    return main, higher


def _refuse_changes(plan: Plan) -> None:
    """RunError when what lies in the run folder was made from another configuration."""
    experiment, folder = plan.experiment, plan.folder
    data = Manifest.open(place(plan.manifest)).fingerprint
    folder.require_same(folder.reference, identity.reference_inputs(experiment, data), "all")
    if not folder.reference.is_file():
        return
    denominators = read_json(folder.reference)["metrics"]
    for name in experiment.arms:
        inputs = identity.arm_inputs(arm(experiment, name), data, denominators)
        for seed in experiment.seeds:
            folder.require_same(folder.cycle(name, seed, 0) / "cycle.json", inputs, name)


def _make_fresh(folder: RunFolder, experiment: Experiment, names: Sequence[str]) -> None:
    """Remove what ``--fresh`` names: an arm, or all."""
    unknown = [name for name in names if name != "all" and name not in experiment.arms]
    if unknown:
        known = ", ".join(experiment.arms)
        raise ConfigError(f"--fresh {unknown[0]}: no such arm; expected 'all' or one of {known}: choose one")
    for name in names:
        if name == "all":
            for part in ("reference", "initial", "pools", *experiment.arms):
                remove_tree(folder.root / part)
            folder.reference.unlink(missing_ok=True)
        else:
            remove_tree(folder.root / name)
