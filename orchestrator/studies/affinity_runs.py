"""What a run folder says of its tasks: students with and without help, controls beside them, and what is missing."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from orchestrator.config import COMPONENTS, put
from orchestrator.curves import Curve, Missing, Results
from orchestrator.errors import ConfigError, RunError
from orchestrator.store import differences
from orchestrator.studies.affinity import Gain, gain_over
from tasks.data.files import Place

SAME = ("active", "tasks", "train.steps", "train.first_steps")  # what arms that are compared must have in common


@dataclass(frozen=True, eq=False)
class Effect:
    """What one or several helpers do for a task. Each gain names its arms; None = it was not tried."""

    helpers: tuple[str, ...]  # what the teacher was shown beside the image
    task: str  # whose labels it gave
    metric: str
    student: str = ""
    gain: Gain | None = None  # of the student over the same without a teacher
    control: Gain | None = None  # of a student whose teacher was shown the image alone, over the same without one
    over_control: Gain | None = None  # of the student over that one
    alone: Gain | None = None  # of a network that is shown the helpers itself over one that is not: the cheap guess

    @property
    def helper(self) -> str:
        return " + ".join(self.helpers)

    @property
    def gains(self) -> list[Gain]:
        """All that were tried."""
        return [one for one in (self.gain, self.control, self.over_control, self.alone) if one is not None]


@dataclass(frozen=True, eq=False)
class Affinity:
    """All effects of a run."""

    name: str
    tasks: tuple[str, ...]
    effects: tuple[Effect, ...]
    wanted: tuple[str, ...]  # arms that are not there, a sentence each
    notes: tuple[str, ...]
    missing: tuple[Missing, ...]  # trials without figures

    def effect(self, helper: str, task: str) -> Effect | None:
        """That of one helper alone: of a student if there is one."""
        found = [one for one in self.effects if (one.helpers, one.task) == ((helper,), task)]
        return next((one for one in found if one.gain is not None), found[0] if found else None)


@dataclass(frozen=True, eq=False)
class _Arm:
    name: str
    settings: Mapping[str, Any]  # the whole experiment as this arm runs it; of its teacher how it teaches
    inputs: tuple[str, ...]  # what its network is shown beside the image
    taught: tuple[str, ...] = ()  # the tasks that a teacher labels for it; () = it has none
    helpers: tuple[str, ...] = ()  # what that teacher is shown beyond its own inputs

    def comparable(self, other: "_Arm") -> bool:
        """Whether both have the same labels, tasks and steps."""
        return all(_at(self.settings, path) == _at(other.settings, path) for path in SAME)


def affinity_of(folder: Place) -> Affinity:
    """The effects that a run's arms tell. RunError where it is no run, or no arm has to do with helping."""
    results = Results.load(folder)
    if results.reference is None:
        raise RunError(
            f"{folder}: has no reference.json, which says of each figure whether more is better; expected a run whose "
            "reference is made: run its experiment"
        )
    return _Reader(results).affinity()


class _Reader:
    """Finds out which arm is whose student, control and baseline."""

    def __init__(self, results: Results) -> None:
        self.results, self.notes, self.wanted = results, list[str](), list[str]()
        self.metrics = {name.partition(".")[0]: name for name in results.main_metrics}
        self.curves = {task: {c.arm: c for c in results.curves(name)} for task, name in self.metrics.items()}
        planned = results.experiment.get("arms")
        self.arms = [self._arm(name, changes or {}) for name, changes in (planned or {}).items()]

    def affinity(self) -> Affinity:
        effects = list(self._students())
        effects += self._guesses({(one.helpers, one.task) for one in effects})
        if not effects:
            raise RunError(self._nothing())
        tasks = tuple(self.metrics)
        tried = {(one.helpers, one.task) for one in effects if one.student}
        for a, b in permutations(tasks, 2):
            if ((a,), b) not in tried:
                self.wanted.append(
                    f"{a} to {b}: no finished arm has a teacher of {b} that is shown {a}; it would be an arm with "
                    f"teacher: {{task: {b}, inputs: [rgb, {a}]}}."
                )
        return Affinity(
            self.results.name, tasks, tuple(effects), tuple(dict.fromkeys(self.wanted)),
            tuple(dict.fromkeys(self.notes)), tuple(self.results.missing),
        )  # fmt: skip

    def _nothing(self) -> str:
        """Why there is no effect at all."""
        if lost := self.results.missing:
            first = f"{lost[0].arm}, seed {lost[0].seed}: {lost[0].why}"
            return f"{self.results.folder}: {first}; run the experiment to its end"
        return (
            f"{self.results.folder}: no arm has a teacher that is shown more than the image, and no network is; "
            "expected arms such as {teacher: {task: segmentation, inputs: [rgb, depth]}}: add some and run it again"
        )

    # ---- arms ----

    def _arm(self, name: str, changes: Mapping[str, Any]) -> _Arm:
        tree = {k: v for k, v in self.results.experiment.items() if k != "arms" and v is not None}
        for key, value in changes.items():
            try:
                put(tree, str(key), value, f"arms.{name}.{key}")
            except ConfigError as error:
                raise RunError(f"{self.results.folder}: experiment.yaml: {error}") from error
        tree |= {key: {"name": tree[key]} for key in COMPONENTS if isinstance(tree.get(key), str)}
        tree["active"] = _with_each_start(tree.get("active"), tree.get("tasks"))
        shown, teacher = _beside_rgb(_at(tree, "model.inputs")), tree.pop("teacher", None)
        if not isinstance(teacher, Mapping):
            return _Arm(str(name), tree, shown)
        tree["teacher"] = {key: value for key, value in teacher.items() if key not in ("task", "inputs", "model")}
        task = teacher.get("task")
        tasks = tuple(map(str, task if isinstance(task, list | tuple) else [task]))
        if unknown := [one for one in tasks if one not in self.metrics]:
            self.notes.append(f"{name}: its teacher labels {unknown[0]}, of which the run has no figures: left out.")
        helpers = tuple(one for one in _beside_rgb(teacher.get("inputs")) if one not in shown)
        return _Arm(str(name), tree, shown, tasks, helpers)

    # ---- effects ----

    def _students(self) -> Iterable[Effect]:
        for arm in self.arms:
            for task in arm.taught if arm.helpers else ():
                own = self.curves.get(task, {}).get(arm.name)
                if own is None:
                    continue  # not finished, which is told, or without figures
                like = [one for one in self.arms if one.inputs == arm.inputs]
                plain = (one for one in like if not one.taught)
                base = self._nearest(arm, plain, task, "without a teacher", "teacher")
                blind = (one for one in like if one.taught == arm.taught and not one.helpers)
                control = self._nearest(arm, blind, task, f"with teacher: {{task: {task}, inputs: [rgb]}}")
                yield Effect(
                    arm.helpers, task, self.metrics[task], arm.name, self._gain(task, own, base),
                    self._gain(task, control, base), self._gain(task, own, control),
                    self._alone(arm, arm.helpers, task),
                )  # fmt: skip

    def _guesses(self, known: Collection[tuple[tuple[str, ...], str]]) -> Iterable[Effect]:
        """Where there is no student: what networks gain that are shown a helper themselves."""
        for arm in self.arms:
            for task in self.metrics if arm.inputs and not arm.taught else ():
                if (arm.inputs, task) in known:
                    continue
                plain = _Arm(arm.name, arm.settings, ())
                if gain := self._alone(plain, arm.inputs, task):
                    known = {*known, (arm.inputs, task)}
                    yield Effect(arm.inputs, task, self.metrics[task], alone=gain)

    def _alone(self, arm: _Arm, helpers: tuple[str, ...], task: str) -> Gain | None:
        """The gain of a network that is shown the helpers itself, over one like the arm that has no teacher either.

        Its labels may be others than the arm's, but the two that are compared have the same ones.
        """
        shown = tuple(sorted({*arm.inputs, *helpers}))
        for one in self.arms:
            own = self.curves[task].get(one.name)
            if one.taught or one.inputs != shown or task in shown or own is None:
                continue
            if _at(one.settings, "tasks") != _at(arm.settings, "tasks"):
                continue
            plain = (other for other in self.arms if not other.taught and other.inputs == arm.inputs)
            if gain := self._gain(task, own, self._nearest(one, plain, task, "", "model")):
                return gain
        return None

    def _nearest(self, arm: _Arm, others: Iterable[_Arm], task: str, kind: str, *apart: str) -> Curve | None:
        """The figures of the comparable arm whose settings differ least; what is missing or differs is noted.

        ``kind`` says in words what is looked for, "" where nobody misses it; ``apart``: sections that may differ.
        """
        found = []
        ignored = (*apart, *(["strategy"] if _at(arm.settings, "active.cycles") == 0 else []))  # nothing is bought
        for one in others:
            if one.name != arm.name and one.name in self.curves[task] and arm.comparable(one):
                lines = differences(arm.settings, one.settings)
                found.append([one.name, *(line for line in lines if not line.startswith(ignored))])
        if not found:
            if kind:
                self.wanted.append(
                    f"{arm.name} ({task}): no finished arm {kind} has the same labels, tasks, steps and inputs; it "
                    f"would be an arm {kind}, and else like {arm.name}."
                )
            return None
        name, *lines = min(found, key=len)
        if lines:
            self.notes.append(f"{arm.name} and {name} differ in more than help: {'; '.join(lines[:3])}.")
        return self.curves[task][name]

    def _gain(self, task: str, arm: Curve | None, other: Curve | None) -> Gain | None:
        if arm is None or other is None:
            return None
        reference = self.results.reference
        assert reference is not None, "it was looked for when the run was opened"
        return gain_over(arm, other, reference.higher_is_better.get(self.metrics[task], True))


def _beside_rgb(inputs: Any) -> tuple[str, ...]:
    listed = inputs if isinstance(inputs, list | tuple) else ()
    return tuple(sorted({str(name) for name in listed} - {"rgb"}))


def _with_each_start(active: Any, tasks: Any) -> Any:
    """The section with a number of first labels for each task, where it has one for all."""
    initial = _at(active, "initial")
    return {**active, "initial": dict.fromkeys(tasks or (), initial)} if isinstance(initial, int | float) else active


def _at(tree: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in path.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = tree[part]
    return tree
