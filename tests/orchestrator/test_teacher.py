"""The section teacher: what it means, what is refused, and how arms change it and the tasks."""

from typing import Any

import pytest
import yaml

from orchestrator import identity, planning, running
from orchestrator.components import Component
from orchestrator.config import Experiment, arm, experiment_of, plain
from orchestrator.errors import ConfigError
from orchestrator.teacher import Teacher

TEACHER: dict[str, Any] = {"task": "segmentation", "inputs": ["rgb", "depth"]}
TREE: dict[str, Any] = {
    "name": "small",
    "data": {"name": "streets", "images": 12, "validation": 2, "test": 2, "size": [64, 96]},
    "tasks": {"segmentation": {}, "depth": {}},
    "model": {"name": "mtinet", "inputs": ["rgb"], "depth_unit": 20.0},
    "train": {"steps": 2},
    "active": {"initial": {"segmentation": 4, "depth": 0.5}, "budget": {"amount": 2}, "cycles": 1},
    "reference": {"steps": 2},
    "arms": {"plain": {}, "taught": {"teacher": TEACHER}},
    "seeds": [0],
}


def read(**changes: Any) -> Experiment:
    return experiment_of({**TREE, **changes}, "x.yaml")


def test_it_reads_back_equal_and_an_arm_may_have_its_own() -> None:
    one = read(teacher={**TEACHER, "steps": 7}, arms={"a": {"teacher.weight": 0.5}, "b": {"teacher": None}})
    assert experiment_of(yaml.safe_load(yaml.safe_dump(plain(one))), "again.yaml") == one
    own = arm(one, "a").teacher
    assert own is not None
    assert (own.tasks, own.sensors, own.reads, own.steps, own.weight) == (("segmentation",), ("depth",), (), 7, 0.5)
    assert arm(one, "b").teacher is None


def test_its_network_is_the_arms_own_with_other_inputs_and_options() -> None:
    model = Component("mtinet", {"inputs": ["rgb"], "depth_unit": 20.0})
    made = Teacher("segmentation", ("rgb", "depth"), model={"fusion": "stem"}).of(model)
    assert made == Component("mtinet", {"inputs": ["rgb", "depth"], "depth_unit": 20.0, "fusion": "stem"})
    assert Teacher("segmentation", ("rgb",)).of(Component("small")) == Component("small")


def test_it_makes_the_cycles_of_its_arm_stale_and_no_others() -> None:
    one = read()
    fits = {name: identity.initial_inputs(arm(one, name), "d", None) for name in one.arms}
    assert "teacher" not in fits["plain"]
    assert fits["taught"].pop("teacher")["threshold"] == 0.9
    assert fits["taught"] == fits["plain"]


def test_an_arm_may_keep_some_of_the_tasks() -> None:
    one = read(arms={"a": {"tasks": ["segmentation"]}, "b": {"active.initial": {"depth": 9}}})
    own = arm(one, "a")
    assert list(own.tasks) == ["segmentation"]
    assert own.active.initial == {"segmentation": 4}
    assert arm(one, "b").active.initial == {"segmentation": 4, "depth": 9}
    with pytest.raises(ConfigError, match=r"arms.a.tasks: the experiment has no task 'pose'"):
        read(arms={"a": {"tasks": ["pose"]}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": []}, "task is \\[\\]; expected at least one"),
        ({"task": "pose"}, "teacher.task names 'pose'; expected some of the tasks"),
        ({"inputs": ["rgb", "lidar"]}, "expected some of rgb, depth, segmentation, each once"),
        ({"inputs": ["segmentation"]}, "names 'segmentation', which is what it labels"),
        ({"threshold": 1.0}, "threshold is 1.0; expected a probability"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"tresh": 0.5}, "teacher.tresh: no such key in Teacher; did you mean 'threshold'?"),
        ({"depth_conf": "mirror"}, "expected 'flip'"),
        ({"threshold": "high"}, "teacher.threshold: found 'high'"),
    ],
)
def test_what_is_no_teacher_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(teacher={**TEACHER, **changes})


def test_the_words_of_a_union_are_no_keys() -> None:
    with pytest.raises(ConfigError, match=r"x.yaml: active.initial: found \[4\]; expected"):
        read(active={**TREE["active"], "initial": [4]})


NO_MODEL: dict[str, Any] = {"model": "small", "tasks": {"detection": {}, "segmentation": {}}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {**NO_MODEL, "active": {**TREE["active"], "initial": 4}},
            "taught: teacher.model.inputs: no such key in small",
        ),
        (
            {
                **NO_MODEL,
                "active": {**TREE["active"], "initial": 4},
                "arms": {"taught": {"teacher": {"task": "detection", "inputs": ["rgb"]}}},
            },
            "teacher.task names 'detection', for which no pseudo-labels can be made; expected segmentation or depth",
        ),
        (
            {"arms": {"a": {"model.inputs": ["rgb", "depth"], "teacher": {"task": "depth", "inputs": ["rgb"]}}}},
            "teacher.task names 'depth', which the arm's own network reads",
        ),
        ({"arms": {"a": {"model.inputs": ["rgb", "segmentation"]}}}, "which images that are to be bought do not have"),
        (
            {"arms": {"a": {"model.inputs": ["rgb", "segmentation"], "tasks": ["depth"], "active.cycles": 0}}},
            "reads the labels of 'segmentation', which is no task of the arm",
        ),
    ],
)
def test_check_builds_the_teacher_and_says_what_cannot_be(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        running.check(read(**tree))


def test_the_plan_of_a_run_counts_its_fits_and_what_it_looks_at() -> None:
    one = read(arms={"plain": {}, "taught": {"teacher": {**TEACHER, "steps": 7}}})
    images = {"train": 12, "val": 2, "test": 3}
    plan = planning.outlook(one, images, (64, 96), running.classes_of(one.data), 10)
    plain, taught = (work for name in ("plain", "taught") for work in plan.of("initial", name))
    assert (plain.steps, plain.fits, plain.evaluated) == (2, 1, 3)
    assert (taught.steps, taught.fits, taught.evaluated) == (2 + 7, 2, 3 + 3 + 12)
    assert {work.labeled for work in plan.of("arm")} == {4}  # images with all labels
    assert plan.of("reference")[0].fits == 1
