"""What a run folder says of its tasks: students with and without help, controls beside them, and what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config import COMPONENTS, put
from orchestrator.curves import Curve, Missing, Results
from orchestrator.errors import ConfigError, RunError
from orchestrator.store import canonical, differences
from orchestrator.studies.affinity import Gain, gain_over
from tasks.data.files import Place

SAME = ("active", "tasks", "train.steps", "train.first_steps")  # what arms that are compared must have in common


@dataclass(frozen=True, eq=False)
class Effect:
    """What one or several helpers do for a task; a gain that was not tried is None."""

    helpers: tuple[str, ...]  # what the teacher was shown beside the image
    task: str  # whose labels it gave
    metric: str
    student: str = ""
    baseline: str = ""  # the same without a teacher
    gain: Gain | None = None  # of the student over the baseline
    control: str = ""  # a student whose teacher was shown the image alone
    control_gain: Gain | None = None  # of that one over the baseline
    over_control: Gain | None = None  # of the student over that one
    alone: str = ""  # an arm that is shown the helpers itself
    alone_gain: Gain | None = None  # of that one over the baseline: the cheap guess

    @property
    def helper(self) -> str:
        return " + ".join(self.helpers)


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
    settings: Mapping[str, Any]  # the whole experiment as this arm runs it, without its teacher
    inputs: tuple[str, ...]  # what its network is shown beside the image
    pupil_of: tuple[str, tuple[str, ...]] | None  # the task that a teacher labels, and what this one is shown

    def comparable(self, other: "_Arm") -> bool:
        """Whether both have the same labels, tasks, steps and inputs."""
        return self.inputs == other.inputs and all(
            canonical(_at(self.settings, path)) == canonical(_at(other.settings, path)) for path in SAME
        )


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
        effects = [*self._students(), *self._shown_alone()]
        if not effects:
            raise RunError(self._nothing())
        tasks = tuple(self.metrics)
        tried = {(one.helpers, one.task) for one in effects if one.gain is not None}
        for a in tasks:
            for b in tasks:
                if a != b and ((a,), b) not in tried:
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
        teacher, shown = tree.pop("teacher", None), _beside_rgb(_at(tree, "model.inputs"))
        return _Arm(str(name), tree, shown, self._pupil(str(name), teacher, shown))

    def _pupil(self, name: str, teacher: Any, shown: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
        """The task that an arm's teacher labels, and what that one is shown beyond the arm itself."""
        if teacher is None:
            return None
        task, inputs = (teacher.get(key) for key in ("task", "inputs")) if isinstance(teacher, Mapping) else ("", ())
        if task not in self.metrics:
            self.notes.append(f"{name}: its teacher's task is {task!r}, and the run has no figures of that: left out.")
            return "", ()
        return str(task), tuple(one for one in _beside_rgb(inputs) if one not in shown)

    # ---- effects ----

    def _students(self) -> Iterable[Effect]:
        for arm in self.arms:
            if arm.pupil_of is None or not arm.pupil_of[1]:
                continue
            task, helpers = arm.pupil_of
            own = self.curves[task].get(arm.name)
            if own is None:
                continue  # it is among those that are missing
            base = self._nearest(arm, (one for one in self.arms if one.pupil_of is None), task, "without a teacher")
            control = self._nearest(
                arm, (one for one in self.arms if one.pupil_of == (task, ())), task,
                f"with teacher: {{task: {task}, inputs: [rgb]}}",
            )  # fmt: skip
            alone = self._alone(arm, helpers, task)
            yield Effect(
                helpers, task, self.metrics[task], arm.name, _name(base), self._gain(task, own, base), _name(control),
                self._gain(task, control, base), self._gain(task, own, control), _name(alone),
                self._gain(task, alone, base),
            )  # fmt: skip

    def _alone(self, arm: _Arm, helpers: tuple[str, ...], task: str) -> Curve | None:
        """A network that is shown the helpers itself, and is else like the arm."""
        seeing = (
            _Arm(one.name, one.settings, arm.inputs, None)
            for one in self.arms
            if one.pupil_of is None and one.inputs == tuple(sorted({*arm.inputs, *helpers})) != arm.inputs
        )
        return self._nearest(arm, seeing, task, "", ("model",))

    def _shown_alone(self) -> Iterable[Effect]:
        """Where there is no student: networks that are shown a helper, beside those that are not."""
        students = {(one.pupil_of[1], one.pupil_of[0]) for one in self.arms if one.pupil_of is not None}
        for arm in self.arms:
            for task in self.metrics if arm.pupil_of is None and arm.inputs else ():
                if task in arm.inputs or (arm.inputs, task) in students or arm.name not in self.curves[task]:
                    continue
                plain = _Arm(arm.name, arm.settings, (), None)
                base = self._nearest(
                    plain, (one for one in self.arms if one.pupil_of is None), task, "that is shown the image alone",
                    ("model",),
                )  # fmt: skip
                gain = self._gain(task, self.curves[task][arm.name], base)
                if gain is not None:
                    yield Effect(
                        arm.inputs, task, self.metrics[task], baseline=_name(base), alone=arm.name, alone_gain=gain
                    )

    def _nearest(
        self, arm: _Arm, others: Iterable[_Arm], task: str, kind: str, apart: Sequence[str] = ()
    ) -> Curve | None:
        """The figures of the comparable arm whose settings differ least; what is missing or differs is noted."""
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


def _name(curve: Curve | None) -> str:
    return "" if curve is None else curve.arm


def _beside_rgb(inputs: Any) -> tuple[str, ...]:
    listed = inputs if isinstance(inputs, list | tuple) else ()
    return tuple(sorted({str(name) for name in listed} - {"rgb"}))


def _at(tree: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in path.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = tree[part]
    return tree
