"""Run folders become a study: which runs, by which error, and what is said where there is nothing to read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import RunError
from orchestrator.store import read_table, write_table
from orchestrator.studies.convergence_runs import study_of
from tests.orchestrator.studies.fake_study import EVERY, LOOKS, write_fake_study


def test_a_run_becomes_a_method_an_arm(tmp_path: Path) -> None:
    study = study_of([write_fake_study(tmp_path / "pickup", dead=[("kgc", 1)])], "pickup.summed_error")
    assert study.methods == ["iou", "kgc", "auxnet"]
    assert len(study.runs) == 15
    assert study.missing == ()
    one = study.runs[0]
    assert one.steps.tolist() == [EVERY * (i + 1) for i in range(LOOKS)]
    assert list(one.errors) == ["pickup.summed_error"]
    assert [(run.method, run.seed) for run in study.runs if run.is_dead] == [("kgc", 1)]
    (weights, *others) = study.weights("kgc")
    assert len(others) == 4
    assert weights.multipliers["pickup.iou"][[0, -1]] == pytest.approx([1, 60])


def test_mdsq_counts_with_the_denominators_of_the_run(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup")
    rate = 1 - study_of([folder], "pickup.summed_error").runs[3].error("pickup.summed_error") / 2
    assert study_of([folder]).runs[3].error("mdsq") == pytest.approx(1 - rate / 0.8)


def test_several_runs_put_their_names_before_the_arms(tmp_path: Path) -> None:
    one, two = (write_fake_study(tmp_path / name, arms=("kgc",), seeds=(0,)) for name in ("a", "b"))
    assert study_of([one, two]).methods == ["a/kgc", "b/kgc"]
    assert study_of([one, two]).names == ("a", "b")
    other = write_fake_study(tmp_path / "far" / "a", arms=("kgc",), seeds=(0,))
    assert study_of([one, other]).methods == [f"{one}/kgc", f"{other}/kgc"]
    with pytest.raises(RunError, match="given twice"):
        study_of([one, one])


def test_arms_that_share_their_first_cycle_are_told(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup", seeds=(0, 1))
    for seed in (0, 1):
        shutil.copy(folder / f"kgc/seed_{seed}/cycle_0/cycle.json", folder / f"iou/seed_{seed}/cycle_0/cycle.json")
    assert study_of([folder]).shared == [["iou", "kgc"]]


def test_what_is_missing_is_told_with_its_reason(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup", unfinished=[("iou", 2), ("kgc", 0)])
    (folder / "failures.json").write_text(json.dumps([{"arm": "kgc", "seed": 0, "why": "train: not finite"}]))
    path = folder / "initial/mark2/seed_4/validation.parquet"
    table = read_table(path)
    write_table(path, table.set_column(2, "value", [np.where(table["step"].to_numpy() == 50, np.nan, 0.5)]))
    (folder / "initial/mark2/seed_3/validation.parquet").unlink()
    write_table(folder / "initial/mark2/seed_2/validation.parquet", table.slice(0, 0))
    (folder / "auxnet/seed_1/cycle_0/cycle.json").write_text(json.dumps({"checkpoint": "../../x/model.pt"}))
    study = study_of([folder], "pickup.summed_error")
    told = {(one.arm, one.seed): one.why for one in study.missing}
    assert len(study.runs) == 15 - len(told) == 9
    assert told["iou", 2] == "its cycle 0 is not finished; run the experiment to its end"
    assert told["kgc", 0] == "train: not finite"
    assert told["auxnet", 4].startswith("pickup.summed_error is not a number after 50 steps")
    assert "set train.validate_every" in told["auxnet", 3]
    assert "is empty" in told["auxnet", 2]
    assert "outside" in told["auxnet", 1]


def test_what_cannot_be_studied_is_a_sentence(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup", seeds=(0,))
    with pytest.raises(RunError, match=r"no experiment.yaml with arms and seeds; expected the folder of a run"):
        study_of([tmp_path])
    with pytest.raises(RunError, match=r"no such figure; expected mdsq or one of .*pickup.summed_error"):
        study_of([folder], "pickup.sum")
    for rises in ("pickup.pickup_rate", "pickup.pickup_rate/cup"):
        with pytest.raises(RunError, match=r"it rises as a network learns"):
            study_of([folder], rises)
    with pytest.raises(RunError, match=r"iou, seed 0: its cycle 3 is not finished"):
        study_of([folder], cycle=3)
    plain = write_fake_study(tmp_path / "plain", seeds=(0,), validated=False)
    with pytest.raises(RunError, match=r"no validation.parquet .* set train.validate_every, for example to 50"):
        study_of([plain])
    (folder / "reference.json").write_text(json.dumps({"metrics": {"pickup.pickup_rate": 0.0}}))
    with pytest.raises(RunError, match=r"the fully trained pickup.pickup_rate is 0.0.* or name a figure with --error"):
        study_of([folder])
    (folder / "reference.json").unlink()
    with pytest.raises(RunError, match=r"has no reference.json"):
        study_of([folder])
    assert len(study_of([folder], "pickup.summed_error").runs) == 3
