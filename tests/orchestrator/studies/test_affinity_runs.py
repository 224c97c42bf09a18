"""Run folders become effects: which arm is whose student, control and baseline, and what is missing."""

from pathlib import Path

import pytest

from orchestrator.errors import RunError
from orchestrator.studies.affinity_runs import Affinity, affinity_of
from tests.orchestrator.studies.fake_affinity import ARMS, FACTORS, write_fake_affinity


def without(*names: str) -> dict[str, object]:
    return {"arms": {name: own for name, own in ARMS.items() if name not in names}}


def found(folder: Path, **changes: object) -> Affinity:
    return affinity_of(write_fake_affinity(folder / "tasks", **changes))  # type: ignore[arg-type]


def test_students_controls_and_those_who_are_shown_it_themselves(tmp_path: Path) -> None:
    affinity = found(tmp_path)
    assert (affinity.name, affinity.tasks) == ("tasks", ("segmentation", "depth"))
    one, other = affinity.effects
    assert (one.helpers, one.task, one.metric) == (("depth",), "segmentation", "segmentation.miou")
    pairs = [(g.pair.arm, g.pair.baseline) for g in one.gains]
    assert pairs == [("ps", "plain"), ("ps-blind", "plain"), ("ps", "ps-blind"), ("mm", "plain")]
    means = [g.mean for g in one.gains]
    assert means == pytest.approx([0.10, 0.02, 1.10 / 1.02 - 1, 0.20], abs=0.01)
    assert (other.helpers, other.task, other.student, other.alone) == (("segmentation",), "depth", "pd", None)
    assert other.gain is not None
    assert other.over_control is not None
    assert other.over_control.pair.baseline == "pd-blind"
    assert other.gain.mean == pytest.approx(0.10, abs=0.01), "an error that falls is a gain"
    assert (other.gain.word, other.over_control.word) == ("helps", "not shown")
    assert affinity.effect("depth", "segmentation") is one
    assert affinity.wanted == ()
    assert affinity.notes == ()


def test_an_independent_task_is_not_shown_to_help(tmp_path: Path) -> None:
    affinity = found(tmp_path, factors={**FACTORS, "ps": (1.0, 1.0)})
    gain = affinity.effects[0].gain
    assert gain is not None
    assert gain.word == "not shown"
    assert gain.interval[0] < 0 < gain.interval[1]


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    gain = found(tmp_path, seeds=[3]).effects[0].gain
    assert gain is not None
    assert gain.values == pytest.approx([0.1], abs=0.02)
    assert gain.word == "not shown"


def test_arms_that_are_missing_are_named_and_not_invented(tmp_path: Path) -> None:
    affinity = found(tmp_path, **without("ps-blind", "pd", "pd-blind"))
    (effect,) = affinity.effects
    assert effect.gain is not None
    assert (effect.control, effect.over_control) == (None, None)
    assert affinity.wanted == (
        "ps (segmentation): no finished arm with teacher: {task: segmentation, inputs: [rgb]} has the same labels, "
        "tasks, steps and inputs; it would be an arm with teacher: {task: segmentation, inputs: [rgb]}, and else like "
        "ps.",
        "segmentation to depth: no finished arm has a teacher of depth that is shown segmentation; it would be an arm "
        "with teacher: {task: depth, inputs: [rgb, segmentation]}.",
    )


@pytest.mark.parametrize("other", [{"train.steps": 900}, {"active.initial": 300}, {"model.inputs": ["rgb", "depth"]}])
def test_a_baseline_with_other_labels_steps_or_inputs_is_none(tmp_path: Path, other: dict[str, object]) -> None:
    affinity = found(tmp_path, arms={**ARMS, "plain": other})
    effect = affinity.effect("depth", "segmentation")
    assert effect is not None
    assert effect.gain is None
    assert effect.over_control is not None
    assert any("no finished arm without a teacher has the same labels" in one for one in affinity.wanted)


def test_one_number_of_first_labels_is_one_for_each_task(tmp_path: Path) -> None:
    each = {"active.initial": {"segmentation": 50, "depth": 50}}
    arms = {"plain": {"active.initial": 50}, "ps": {**ARMS["ps"], **each}}
    (effect,) = found(tmp_path, arms=arms).effects
    assert effect.gain is not None
    assert effect.gain.pair.baseline == "plain"


def test_the_arm_that_differs_least_is_the_baseline(tmp_path: Path) -> None:
    arms = {"other": {"weighting": "kendall"}, **ARMS, "random": {"strategy": "random"}}
    affinity = found(tmp_path, arms=arms, factors={**FACTORS, "other": (2, 2), "random": (1, 1)})
    assert {one.gain.pair.baseline for one in affinity.effects if one.gain} == {"plain"}
    only = {"other": {"weighting": "kendall"}, "ps": ARMS["ps"]}
    affinity = found(tmp_path / "b", arms=only, factors={**FACTORS, "other": (1, 1)})
    assert [one.pair.baseline for one in affinity.effects[0].gains] == ["other"]
    assert 'ps and other differ in more than help: weighting: nothing -> {"name":"kendall"}.' in affinity.notes


def test_a_teacher_of_the_whole_run_and_an_arm_without(tmp_path: Path) -> None:
    arms = {"ps": {}, "plain": {"teacher": None}, "ps-blind": {"teacher.inputs": ["rgb"]}}
    folder = write_fake_affinity(tmp_path / "tasks", arms=arms)
    path, teacher = folder / "experiment.yaml", "teacher: {task: segmentation, inputs: [rgb, depth]}\n"
    path.write_text(path.read_text().replace("teacher: null\narms", f"{teacher}arms"))
    (effect,) = affinity_of(folder).effects
    assert [(g.pair.arm, g.pair.baseline) for g in effect.gains] == [
        *(("ps", "plain"), ("ps-blind", "plain"), ("ps", "ps-blind")),
    ]


def test_more_than_two_tasks_and_several_helpers(tmp_path: Path) -> None:
    arms = {
        **ARMS,
        "all": {"teacher": {"task": "detection", "inputs": ["rgb", "depth", "segmentation"]}},
        "det": {"teacher": {"task": "detection", "inputs": ["depth", "rgb"]}},
    }
    tasks = ("segmentation", "depth", "detection")
    factors = {**{name: (*own, 1.0) for name, own in FACTORS.items()}, "all": (1, 1, 1.3), "det": (1, 1, 0.8)}
    affinity = found(tmp_path, arms=arms, factors=factors, tasks=tasks)
    helpers = {(one.helper, one.task): one.gain and one.gain.word for one in affinity.effects}
    assert helpers == {
        ("depth", "segmentation"): "helps",
        ("segmentation", "depth"): "helps",
        ("depth + segmentation", "detection"): "helps",
        ("depth", "detection"): "hurts",
    }
    assert sum(" to " in one.partition(":")[0] for one in affinity.wanted) == 3  # of six directions three were tried
    (both,) = [one for one in affinity.effects if len(one.helpers) == 2]
    assert both.student == "all"


def test_a_network_that_is_shown_the_helper_is_a_guess(tmp_path: Path) -> None:
    (effect,) = found(tmp_path, **without("ps", "ps-blind", "pd", "pd-blind")).effects
    assert (effect.student, effect.gain, effect.task) == ("", None, "segmentation")
    assert effect.alone is not None
    assert (effect.alone.pair.arm, effect.alone.pair.baseline) == ("mm", "plain")
    assert effect.alone.mean == pytest.approx(0.2, abs=0.01)


def test_the_rows_of_the_paper(tmp_path: Path) -> None:
    """Students have more labels of the helper than the networks that are shown it; each has its own baseline."""
    more: dict[str, dict[str, object]] = {"active.initial": {"depth": 1000}}
    arms: dict[str, dict[str, object]] = {
        "umst-s": {"tasks": ["segmentation"]},
        "mmst": {"tasks": ["segmentation"], "model.inputs": ["rgb", "depth"]},
        "ummt": {},
        "ummt-d": {**more},
        "mmmt-d": {"model.inputs": ["rgb", "depth"]},
        "ummt-ps": {**more, "teacher": {"task": ["segmentation"], "inputs": ["rgb", "depth"]}},
        "control": {**more, "teacher": {"task": "segmentation", "inputs": ["rgb"]}},
    }
    affinity = found(tmp_path, arms=arms, factors=dict.fromkeys(arms, (1.0, 1.0)))
    (effect,) = affinity.effects
    assert [(g.pair.arm, g.pair.baseline) for g in effect.gains] == [
        *(("ummt-ps", "ummt-d"), ("control", "ummt-d"), ("ummt-ps", "control"), ("mmmt-d", "ummt")),
    ]
    assert affinity.notes == ()


def test_the_last_cycle_counts_and_lost_trials_are_told(tmp_path: Path) -> None:
    affinity = found(tmp_path, cycles=2, unfinished=[("plain", 1), ("pd", 0)])
    one, other = affinity.effects
    assert [len(e.gain.values) for e in (one, other) if e.gain] == [4, 3]
    assert [(m.arm, m.seed) for m in affinity.missing] == [("plain", 1), ("pd", 0)]


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no cycles.parquet; expected the folder of a run"):
        affinity_of(tmp_path)
    with pytest.raises(RunError, match=r"no arm has a teacher that is shown more than the image"):
        found(tmp_path, **without("ps", "pd", "mm"))
    odd = {"ps": {"teacher": {"task": "lanes", "inputs": ["rgb", "depth"]}}, "plain": {}}
    with pytest.raises(RunError, match=r"no arm has a teacher"):
        found(tmp_path / "odd", arms=odd)
    lost = [("ps", seed) for seed in range(5)]
    with pytest.raises(RunError, match=r"ps, seed 0: not finished: 0 of 1 cycles were found; run the experiment"):
        found(tmp_path / "lost", arms={"plain": {}, "ps": ARMS["ps"]}, unfinished=lost)
    folder = write_fake_affinity(tmp_path / "broken", arms={"plain": {"tasks.depth.x.y": 1, "train.steps.x": 2}})
    with pytest.raises(RunError, match=r"experiment.yaml: arms.plain.train.steps.x: 'steps' holds 600"):
        affinity_of(folder)
    (folder / "reference.json").unlink()
    with pytest.raises(RunError, match=r"has no reference.json"):
        affinity_of(folder)
