import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.curves import Curve, Results, curves, mdsq
from orchestrator.errors import RunError
from tests.orchestrator.fake_run import write_fake_run

BOTH = {"detection.map": True, "segmentation.miou": True}


def curve(y: list[list[float]], x: list[float] | None = None, arm: str = "a", seeds: list[int] | None = None) -> Curve:
    rows = np.array(y, dtype=np.float64)
    places = np.arange(rows.shape[1]) if x is None else x
    return Curve(arm, np.array(seeds or range(rows.shape[0]), dtype=np.int64), np.array(places, dtype=np.float64), rows)


def table(rows: list[tuple[str, int, int, int, float]]) -> pa.Table:
    names = ("arm", "seed", "cycle", "labeled.detection", "detection.map")
    return pa.table({n: [row[i] for row in rows] for i, n in enumerate(names)})


def test_mdsq_is_the_mean_of_the_ratios() -> None:
    value = mdsq(
        {"detection.map": 0.1, "segmentation.miou": 0.3}, {"detection.map": 0.2, "segmentation.miou": 0.4}, BOTH
    )
    assert value == pytest.approx((0.5 + 0.75) / 2)


def test_mdsq_turns_the_ratio_where_lower_is_better() -> None:
    metrics, full = {"segmentation.miou": 0.4, "depth.rmse": 4.0}, {"segmentation.miou": 0.4, "depth.rmse": 3.0}
    assert mdsq(metrics, full, {"segmentation.miou": True, "depth.rmse": False}) == pytest.approx((1 + 0.75) / 2)
    assert mdsq({"depth.rmse": 0.0}, {"depth.rmse": 3.0}, {"depth.rmse": False}) == math.inf


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_mdsq_refuses_a_denominator_that_is_not_positive(bad: float) -> None:
    with pytest.raises(ValueError, match=r"detection\.map is .*; expected a figure above 0"):
        mdsq({"detection.map": 0.1}, {"detection.map": bad}, BOTH)


def test_mdsq_names_a_missing_figure_and_passes_nan_on() -> None:
    with pytest.raises(ValueError, match=r"segmentation\.miou is missing; found detection\.map"):
        mdsq({"detection.map": 0.1}, {"segmentation.miou": 0.5}, BOTH)
    with pytest.raises(ValueError, match="no denominators"):
        mdsq({"detection.map": 0.1}, {}, BOTH)
    assert math.isnan(mdsq({"detection.map": math.nan}, {"detection.map": 0.2}, BOTH))


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 10), min_size=1), st.data())
def test_mdsq_of_the_reference_itself_is_one(full: dict[str, float], data: st.DataObject) -> None:
    higher = {name: data.draw(st.booleans()) for name in full}
    assert mdsq(full, full, higher) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("seeds", "x", "y"),
    [([0, 1], [1, 2], [[1, 2]]), ([0], [1, 2, 3], [[1, 2]]), ([0, 0], [1], [[1], [2]]), ([], [1, 2], np.empty((0, 2)))],
)
def test_a_curve_checks_its_shapes(seeds: list[int], x: list[float], y: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="Curve of 'a'"):
        Curve("a", np.array(seeds, dtype=np.int64), np.array(x, dtype=np.float64), np.array(y, dtype=np.float64))


def test_mean_and_deviation_over_seeds() -> None:
    three = curve([[1, 2], [2, 4], [3, 9]])
    assert three.mean.tolist() == [2, 5]
    assert three.sd == pytest.approx([1.0, math.sqrt(13)])
    assert np.isnan(curve([[1, 2]]).sd).all()
    assert np.isnan(curve([[1, 2], [1, math.nan]]).mean).tolist() == [False, True]


def test_area_is_the_mean_height() -> None:
    assert curve([[0, 1], [1, 1]], x=[160, 280]).area().tolist() == [0.5, 1.0]
    assert curve([[0, 1, 1]], x=[0, 1, 3]).area() == pytest.approx([(0.5 + 2) / 3])
    assert np.isnan(curve([[0.4, 0.5]], x=[160, 160]).area()).all(), "an arm that buys nothing has no budget curve"


def test_labels_to_reach_a_level() -> None:
    rising = curve([[0.8, 0.9, 1.0]], x=[100, 200, 300])
    assert rising.labels_to_reach(0.95) == pytest.approx(250)
    assert rising.labels_to_reach(0.5) == 100
    assert math.isnan(rising.labels_to_reach(1.1))


def test_curves_hold_complete_seeds_only() -> None:
    rows = [("r", 0, k, 10 + k, k / 10) for k in (2, 0, 1)] + [("r", 3, k, 10 + k, 1.0) for k in (0, 2)]
    rows += [("e", 0, k, 10 + k, 0.5) for k in (0, 1)]
    found = curves(table(rows), "detection.map")
    assert [(c.arm, c.seeds.tolist()) for c in found] == [("r", [0]), ("e", [0])]
    assert found[0].x.tolist() == [10, 11, 12]
    assert found[0].y.tolist() == [[0, 0.1, 0.2]]
    assert [c.arm for c in curves(table(rows), "detection.map", {"e": 2})] == ["r"]


def test_x_is_the_tasks_own_count_and_the_mean_for_mdsq() -> None:
    plain = pa.table({
        "arm": ["r"] * 2, "seed": [0, 0], "cycle": [0, 1],
        "labeled.detection": [10, 20], "labeled.segmentation": [10, 40],
        "mdsq": [0.1, 0.2], "detection.map": [0.1, 0.2], "segmentation.miou": [0.1, None],
    })  # fmt: skip
    assert curves(plain, "segmentation.miou")[0].x.tolist() == [10, 40]
    assert np.isnan(curves(plain, "segmentation.miou")[0].y[0, 1]), "an undefined figure stays undefined"
    assert curves(plain, "mdsq")[0].x.tolist() == [10, 30]


def test_results_of_a_run(tmp_path: Path) -> None:
    results = Results.load(write_fake_run(tmp_path / "demo", pictures=0))
    assert results.name == "demo"
    assert results.arms == ["random", "equal", "boxmask", "no-new-labels"]
    assert results.baseline == "random"
    assert results.tasks == ["detection", "segmentation"]
    assert results.main_metrics == ["detection.map", "segmentation.miou"]
    assert results.headline == "mdsq"
    assert results.pool == 400
    assert results.setting("active.budget.amount", "random") == 0.1
    assert results.setting("active.budget.amount", "no-new-labels") == 0
    assert results.missing == []
    control = results.curves("mdsq")[-1]
    assert not control.buys
    row = {n: results.table.column(n)[5].as_py() for n in results.table.column_names}
    assert results.reference is not None
    assert row["mdsq"] == pytest.approx(mdsq(row, results.reference.metrics, results.reference.higher_is_better))


def test_lost_trials_are_listed_and_never_averaged_away(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0, lost=[("boxmask", 1, 2), ("equal", 0, 0), ("equal", 1, 0)])
    (folder / "failures.json").write_text('[{"arm": "boxmask", "seed": 1, "why": "killed"}]')
    results = Results.load(folder)
    assert [(m.arm, m.seed) for m in results.missing] == [("equal", 0), ("equal", 1), ("boxmask", 1)]
    assert results.missing[2].why == "killed"
    assert results.missing[0].why == "not finished: 0 of 4 cycles were found"
    assert {c.arm: c.seeds.tolist() for c in results.curves("mdsq")} == {
        "random": [0, 1], "boxmask": [0], "no-new-labels": [0, 1],
    }  # fmt: skip


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no cycles\.parquet; expected the folder of a run"):
        Results.load(tmp_path)
    folder = write_fake_run(tmp_path / "demo", pictures=0)
    whole = pq.read_table(folder / "cycles.parquet")
    pq.write_table(pa.concat_tables([whole, whole.slice(0, 1)]), folder / "cycles.parquet")
    with pytest.raises(RunError, match="arm 'random', seed 0, cycle 0 occurs twice"):
        Results.load(folder)
    pq.write_table(whole.drop_columns(["seed"]), folder / "cycles.parquet")
    with pytest.raises(RunError, match="no column seed"):
        Results.load(folder)


def test_nulls_of_a_reference_are_nan(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "demo", pictures=0)
    value = json.loads((folder / "reference.json").read_text())
    value["per_seed"]["0"]["detection.ap/sign"] = None
    (folder / "reference.json").write_text(json.dumps(value))
    reference = Results.load(folder).reference
    assert reference is not None
    assert math.isnan(reference.per_seed["0"]["detection.ap/sign"])
