"""The loop in one process: what is shared, what is resumed, what is refused, and that it is the same every time."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator import cycle as loop
from orchestrator import here, running
from orchestrator.config import experiment_of
from orchestrator.display import Display
from orchestrator.errors import ConfigError, RunError
from orchestrator.local_workers import LocalWorkers
from orchestrator.report import write_report
from orchestrator.trials import Failure, Plan, Unit, carry_out
from tests.data.camvid import write_camvid
from tests.tiny import results, tiny

pytestmark = pytest.mark.usefixtures("drawn_later")
QUIET = Display(Console(quiet=True))


def plan_of(tree: dict[str, Any]) -> Plan:
    return running.planned(experiment_of(tree, "tiny.yaml"), QUIET.update)


def run(tree: dict[str, Any], fresh: tuple[str, ...] = ()) -> tuple[Path, list[Failure]]:
    report, failures = running.run(plan_of(tree), lambda plan, units: here.run_units(plan, units, QUIET), fresh)
    return report.parent, failures


@pytest.fixture
def base(tiny_run: Path) -> Path:
    """One finished run, to be copied and looked at."""
    return tiny_run / "runs" / "tiny"


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A finished run that may be damaged, with its data."""
    shutil.copytree(base.parent, tmp_path / "runs")
    return tmp_path / "runs" / base.name


def test_budgets_and_shares(base: Path) -> None:
    rows = pq.read_table(base / "cycles.parquet").to_pylist()
    assert [(r["arm"], r["cycle"], r["labeled.detection"]) for r in rows] == [
        ("random", 0, 6), ("random", 1, 8), ("random", 2, 10), ("boxmask", 0, 6), ("boxmask", 1, 8), ("boxmask", 2, 10),
    ]  # fmt: skip
    assert all(r["total"] == 16 and r["mdsq"] >= 0 for r in rows)
    assert rows[0]["segmentation.miou"] == rows[3]["segmentation.miou"]  # cycle 0 is one fit for both arms
    assert len(list(base.glob("initial/*/seed_0/fit.json"))) == 1
    assert rows[1]["cost.seconds"] > rows[0]["cost.seconds"]
    assert {p.name for p in base.iterdir()} >= {"cycles.parquet", "experiment.yaml", "environment.json"}


def test_nothing_is_bought_twice_and_the_pool_is_citable(base: Path) -> None:
    pool = pq.read_table(base / "pools" / "seed_0.parquet").to_pylist()
    owned = {row["id"] for row in pool if row["detection.source"] == 1}
    assert len(owned) == 6
    for cycle in (0, 1):
        bought = pq.read_table(base / "boxmask" / "seed_0" / f"cycle_{cycle}" / "bought.parquet").to_pylist()
        assert len(bought) == 2
        assert not owned & {row["id"] for row in bought}
        assert {"s_seg", "s_loc", "s_cls"} <= set(bought[0])
        owned |= {row["id"] for row in bought}


def test_a_pool_written_in_parts_is_the_same_table(base: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = copy / "pools" / "seed_0.parquet"
    written.unlink()
    monkeypatch.setattr(loop, "WRITTEN_AT_ONCE", 5)
    plan, unit = plan_of(tiny(copy.parent)), Unit("arm", "random", 0)
    assert len(list(carry_out(plan, unit, LocalWorkers(plan.setup(unit))))) == 3
    assert pq.read_metadata(written).num_row_groups == 4
    assert pq.read_table(written).equals(pq.read_table(base / "pools" / "seed_0.parquet"))


def test_galleries_are_made(base: Path) -> None:
    folder = base / "boxmask" / "seed_0" / "cycle_0" / "gallery"
    entry = json.loads((folder / "gallery.json").read_text())[0]
    assert (folder / entry["panel"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_second_run_elsewhere_is_identical(base: Path, tmp_path: Path) -> None:
    folder, _ = run(tiny(tmp_path))
    assert results(folder) == results(base)


def test_a_finished_run_is_not_made_again(copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("model.pt")}
    run(tiny(copy.parent))
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("model.pt")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost",
    [
        "reference.json",
        pytest.param("initial", marks=pytest.mark.slow),
        "random/seed_0/cycle_1/cycle.json",
        "boxmask/seed_0/cycle_0/purchase.json",
        pytest.param("boxmask/seed_0/cycle_1", marks=pytest.mark.slow),
        pytest.param("boxmask/seed_0/cycle_2/cycle.json", marks=pytest.mark.slow),
        "cycles.parquet",
    ],
)
def test_what_a_kill_left_undone_is_done_again_to_the_same_result(base: Path, copy: Path, lost: str) -> None:
    place = copy / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if lost.endswith("cycle_1"):
        shutil.rmtree(copy / "boxmask" / "seed_0" / "cycle_2")
    run(tiny(copy.parent))
    assert results(copy) == results(base)


@pytest.mark.slow
def test_more_cycles_and_another_arm_compute_only_what_is_new(base: Path, copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("model.pt")}
    tree = tiny(copy.parent)
    tree["active"]["cycles"] = 3
    tree["arms"]["equal"] = {"strategy": "equal"}
    run(tree)
    after = {p: p.stat().st_mtime_ns for p in copy.rglob("model.pt")}
    assert before.items() <= after.items()
    rows = pq.read_table(copy / "cycles.parquet").to_pylist()
    assert [r["cycle"] for r in rows] == [0, 1, 2, 3] * 3


@pytest.mark.slow
def test_a_changed_configuration_is_refused_unless_made_fresh(copy: Path) -> None:
    tree = tiny(copy.parent)
    tree["arms"]["boxmask"]["strategy"]["tau"] = 0.5
    with pytest.raises(RunError, match=r"strategy\.tau: nothing -> 0\.5.*--fresh boxmask"):
        run(tree)
    run(tree, fresh=("boxmask",))
    tree["train"]["rate"] = 0.001
    with pytest.raises(RunError, match=r"train\.rate: 0\.004 -> 0\.001.*--fresh all"):
        run(tree)


@pytest.mark.slow
def test_an_arm_may_buy_nothing_start_afresh_or_have_its_own_cycle_0(tmp_path: Path) -> None:
    tree = tiny(tmp_path)
    tree["arms"] = {
        "random": {"strategy": "random"},
        "no-new-labels": {"active.budget.amount": 0},
        "scratch": {"active.warm_start": False},
        "longer": {"train.first_steps": 7},
        "subset": {"active.pool_subset": 4},
    }
    tree["active"]["cycles"] = 1
    folder, _ = run(tree)
    rows = {(r["arm"], r["cycle"]): r for r in pq.read_table(folder / "cycles.parquet").to_pylist()}
    assert rows["no-new-labels", 1]["labeled.detection"] == 6
    assert rows["random", 1]["labeled.detection"] == 8
    assert rows["scratch", 1]["segmentation.miou"] != rows["random", 1]["segmentation.miou"]
    assert rows["longer", 0]["segmentation.miou"] != rows["random", 0]["segmentation.miou"]
    assert len(list(folder.glob("initial/*/seed_0/fit.json"))) == 2
    for arm, images in (("random", 10), ("subset", 4)):
        scored = pa.concat_tables(map(pq.read_table, sorted(folder.glob(f"{arm}/seed_0/cycle_0/scores/*.parquet"))))
        assert len(scored) == images
    bought = pq.read_table(folder / "subset" / "seed_0" / "cycle_0" / "bought.parquet")
    assert set(bought["id"].to_pylist()) < set(scored["id"].to_pylist())


@pytest.mark.slow
def test_a_model_of_ones_own_goes_through_the_loop(tmp_path: Path) -> None:
    arms = {"boxmask": {"strategy": {"name": "boxmask", "crop_size": 32}}}
    tree = tiny(tmp_path, model={"name": "tests.toy:Own", "channels": 16}, arms=arms)
    folder, failures = run(tree)
    assert failures == []
    assert len(pq.read_table(folder / "cycles.parquet")) == 3


@pytest.mark.slow
def test_a_budget_larger_than_the_pool_buys_what_is_left(tmp_path: Path) -> None:
    tree = tiny(tmp_path, arms={"random": {"strategy": "random"}})
    tree["active"]["budget"]["amount"] = 100
    folder, _ = run(tree)
    rows = pq.read_table(folder / "cycles.parquet").to_pylist()
    assert [r["labeled.detection"] for r in rows] == [6, 16, 16]


@pytest.mark.slow
def test_a_strategy_that_fails_fails_alone(tmp_path: Path) -> None:
    tree = tiny(tmp_path)
    tree["active"]["cycles"] = 1
    tree["arms"] = {"random": {"strategy": "random"}, "bad": {"strategy": "tests.orchestrator.bad_strategies:Raises"}}
    folder, failures = run(tree)
    assert [f.arm for f in failures] == ["bad"]
    assert "ZeroDivisionError" in failures[0].why
    assert "bad_strategies.py" in failures[0].why
    assert [r["arm"] for r in pq.read_table(folder / "cycles.parquet").to_pylist()] == ["random", "random", "bad"]
    assert "bad" in write_report(folder).read_text()


@pytest.mark.slow
def test_shards_and_workers_do_not_change_the_picks(base: Path, tmp_path: Path) -> None:
    tree = tiny(tmp_path)
    tree["cluster"]["shard"] = 4  # the batches of a shard stay as they were
    folder, _ = run(tree)
    assert results(folder) == results(base)


@pytest.mark.slow
def test_units_can_be_carried_out_one_by_one(base: Path, tmp_path: Path) -> None:
    """What a notebook does: a plan, workers of this process, one unit."""
    plan = plan_of(tiny(tmp_path))
    unit = Unit("reference", "", 0)
    assert list(carry_out(plan, unit, LocalWorkers(plan.setup(unit)))) == []
    assert len(list(plan.folder.root.glob("reference/*/seed_0/fit.json"))) == 1


@pytest.mark.slow
def test_validation_images_are_needed_only_to_choose_by(tmp_path: Path) -> None:
    annotations = write_camvid(tmp_path / "set") / "annotations.json"
    content = json.loads(annotations.read_text())
    content["images"] = [image for image in content["images"] if image["split"] != "val"]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    annotations.write_text(json.dumps(content))
    data = {"name": "camvid", "root": str(tmp_path / "set"), "size": [32, 32]}
    tree = tiny(tmp_path / "runs", data=data, active={"initial": 1, "budget": {"amount": 1}, "cycles": 1})
    plan = plan_of(tree)
    assert here.run_units(plan, [Unit("reference", "", 0), Unit("initial", "random", 0)], QUIET) == []
    tree["train"]["evaluations"] = 2
    with pytest.raises(ConfigError, match="no image of the split 'val' \\(to choose checkpoints by\\)"):
        plan_of(tree)


@pytest.mark.slow
def test_cycle_0_waits_for_the_reference_only_where_it_chooses_by_it(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def execute(plan: Plan, units: Sequence[Unit]) -> list[Failure]:
        asked.append([unit.kind for unit in units])
        if any(unit.kind == "arm" for unit in units):
            raise KeyboardInterrupt
        return here.run_units(plan, [unit for unit in units if unit.kind == "reference"], QUIET)

    plain, choosing = tiny(tmp_path, seeds=[0, 1]), tiny(tmp_path, name="choosing")
    choosing["train"]["evaluations"] = 2
    for tree in (plain, choosing):
        with pytest.raises(KeyboardInterrupt):
            running.run(plan_of(tree), execute)
    assert asked[:3] == [["reference", "initial", "initial"], [], ["arm"] * 4]
    assert asked[3:] == [["reference"], ["initial"], ["arm"] * 2]
