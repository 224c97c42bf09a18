"""Teachers in the loop: whom they learn from, what they label, that people win, and that a kill changes nothing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator import exporting, here, running
from orchestrator.components import Component
from orchestrator.config import Train, experiment_of
from orchestrator.display import Display
from orchestrator.errors import RunError
from orchestrator.pool import HUMAN, PSEUDO, Pool
from orchestrator.pseudo_labels import ROW
from orchestrator.report import write_report
from orchestrator.store import RunFolder
from orchestrator.teacher import Teacher
from orchestrator.teaching import Lesson, teach, wanted_labels
from orchestrator.workers import FitJob, Fitted, PseudoJob
from tasks.classes import ClassMap
from tasks.data.manifest import NAME, Manifest, Record, write_manifest
from tests.tiny import results, tiny

pytestmark = pytest.mark.usefixtures("drawn_later")
QUIET = Display(Console(quiet=True))
TASKS = ("segmentation", "depth")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Forty images, of which every fourth has no depth."""
    records = [
        Record(f"i{i}", f"{i}.png", (8, 16), "train", segmentation=f"{i}_s.png", depth=f"{i}.npy" if i % 4 else None)
        for i in range(40)
    ]
    write_manifest(tmp_path / NAME, records, ClassMap((), ("road", "car"), ()), [0, 1, *[-1] * 253, 255])
    return Manifest.open(tmp_path)


def lesson(manifest: Manifest, folder: Path, teacher: Teacher) -> Lesson:
    return Lesson(
        teacher, Component("mtinet"), Train(steps=3), 3, folder / "teacher", folder, manifest, (), 0, 1, None, None,
        "val", {"x": 1}, 16,
    )  # fmt: skip


def pool_of(manifest: Manifest, **counts: int) -> Pool:
    return Pool.initial(manifest.keys("train"), TASKS, counts, 0)


class Helpers:
    """Workers that only take notes; every image that is asked for gets a label, but the first of each shard."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.fits, self.jobs = manifest, list[FitJob](), list[PseudoJob]()

    def fit(self, job: FitJob) -> Fitted:
        self.fits.append(job)
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.pt").touch()
        return Fitted(str(folder / "model.pt"), 3, 0, {})

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        return {"segmentation.miou": 0.25}

    def pseudo(self, job: PseudoJob) -> int:
        self.jobs.append(job)
        rows, folder = self.manifest.rows("train"), Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        for shard, start in enumerate(range(0, len(rows), 16)):
            asked = rows[start : start + 16][job.wanted[start : start + 16, 0]]
            keys = self.manifest.keys()[asked].tolist()
            files = [None if i == 0 else f"segmentation/{key:016x}.png" for i, key in enumerate(keys)]
            table = {
                "id": self.manifest.ids(asked), "key": np.array(keys, np.uint64), "task": ["segmentation"] * len(keys),
                "coverage": [0.0 if f is None else 0.5 for f in files], "threshold": [0.9] * len(keys),
                "source": [job.source] * len(keys), "file": files,
            }  # fmt: skip
            pq.write_table(pa.table(table, ROW), folder / f"shard_{shard:05d}.parquet")
        return int(job.wanted.any(1).sum())


SEES_DEPTH = Teacher("segmentation", ("rgb", "depth"))


def test_it_is_asked_for_what_people_have_not_labeled_where_what_it_is_shown_is_there(
    manifest: Manifest, tmp_path: Path
) -> None:
    pool = pool_of(manifest, segmentation=8, depth=20)
    has_depth = np.array([record.depth is not None for record in manifest.records(manifest.rows("train"))])
    seg, depth = pool.human.T
    for teacher, expected in (
        (SEES_DEPTH, ~seg & has_depth),  # a sensor's is there whether it was labeled or not
        (Teacher("segmentation", ("rgb",)), ~seg),
        (Teacher("depth", ("rgb", "segmentation")), ~depth & seg),  # labels only where people gave them
    ):
        assert np.array_equal(wanted_labels(lesson(manifest, tmp_path, teacher), pool)[:, 0], expected)
    more = pool_of(manifest, segmentation=30, depth=20)
    found = wanted_labels(lesson(manifest, tmp_path, Teacher("depth", ("rgb", "segmentation"))), more)
    assert np.array_equal(found[:, 0], more.human[:, 0] & ~more.human[:, 1])
    assert int(found.sum()) == 10


def test_it_learns_from_people_and_its_labels_stand_in_the_rows_that_lack_them(
    manifest: Manifest, tmp_path: Path
) -> None:
    pool, workers = pool_of(manifest, segmentation=8, depth=20), Helpers(manifest)
    of = lesson(manifest, tmp_path, SEES_DEPTH)
    taught = teach(of, workers, pool)  # type: ignore[arg-type]
    fit = workers.fits[0]
    assert fit.model == Component("mtinet", {"inputs": ["rgb", "depth"]})
    has_depth = np.array([record.depth is not None for record in manifest.records(manifest.rows("train"))])
    assert np.array_equal(fit.rows, manifest.rows("train")[pool.human[:, 0] & has_depth])
    assert fit.has.all(0)[0]
    assert fit.pseudo is None
    told = taught.told["teacher"]
    asked = int(workers.jobs[0].wanted.sum())
    assert (told["asked"], told["made"]) == ({"segmentation": asked}, {"segmentation": asked - 3})
    assert told["coverage"]["segmentation"] == pytest.approx(0.5 * (asked - 3) / asked)
    assert (told["checkpoint"], told["metrics"]) == ("teacher/model.pt", {"segmentation.miou": 0.25})
    made = taught.pool.source[:, 0] == PSEUDO
    assert int(made.sum()) == asked - 3
    assert np.array_equal(taught.pool.human, pool.human)
    records = Manifest(manifest.path, [Path(taught.labels[-1])]).records(manifest.rows("train"))
    for record, before, is_made in zip(records, manifest.records(manifest.rows("train")), made, strict=True):
        assert (record.segmentation != before.segmentation) == is_made
        assert replace(record, segmentation=None) == replace(before, segmentation=None)
    again = teach(of, workers, pool)  # type: ignore[arg-type]
    assert len(workers.fits) == len(workers.jobs) == 1
    assert np.array_equal(again.pool.source, taught.pool.source)


def test_what_was_made_from_other_labels_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    workers, of = Helpers(manifest), lesson(manifest, tmp_path, SEES_DEPTH)
    teach(of, workers, pool_of(manifest, segmentation=8, depth=20))  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"pseudo.json: was made from other labels or settings; expected those of this"):
        teach(of, workers, pool_of(manifest, segmentation=9, depth=20))  # type: ignore[arg-type]


def test_a_teacher_without_anything_to_learn_from_says_so(manifest: Manifest, tmp_path: Path) -> None:
    pool = pool_of(manifest, segmentation=0, depth=9)
    with pytest.raises(RunError, match=r"teacher: no image has people's labels of what it labels \(segmentation\)"):
        teach(lesson(manifest, tmp_path, SEES_DEPTH), Helpers(manifest), pool)  # type: ignore[arg-type]


# ---- whole runs -----------------------------------------------------------------------------------------------------


TAUGHT: dict[str, Any] = {
    "data": {"name": "streets", "images": 16, "validation": 2, "test": 3, "size": [32, 64]},
    "train": {"steps": 2, "first_steps": 3, "batch": 4},
    "reference": {"steps": 3, "seeds": [0]},
    "tasks": {"segmentation": {}, "depth": {}},
    "model": {"name": "mtinet", "depth_unit": 20.0, "deep_supervision": False, "loss_stride": 4},
    "active": {"initial": {"segmentation": 4, "depth": 12}, "budget": {"amount": 2}, "cycles": 1},
    "arms": {
        "taught": {"teacher": {"task": "segmentation", "inputs": ["rgb", "depth"], "threshold": 0.1, "weight": 0.5}},
        "mirror": {
            "active.cycles": 0,
            "active.initial": {"segmentation": 9, "depth": 5},
            "teacher": {"task": "depth", "inputs": ["rgb", "segmentation"], "depth_conf": "flip", "steps": 2},
        },
        "single": {"tasks": ["segmentation"], "active.cycles": 0, "model.inputs": ["rgb", "depth"]},
    },
    "gallery": {"picks": 0},
}


def run(output: Path, **changes: Any) -> Path:
    plan = running.planned(experiment_of(tiny(output, **{**TAUGHT, **changes}), "tiny.yaml"), QUIET.update)
    report, failures = running.run(plan, lambda plan, units: here.run_units(plan, units, QUIET))
    assert failures == []
    return report.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs"))


def record(folder: Path, arm: str, cycle: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / arm / "seed_0" / f"cycle_{cycle}" / "cycle.json").read_text())
    return found


@pytest.mark.slow
def test_a_run_with_teachers(base: Path) -> None:
    first, second = record(base, "taught", 0), record(base, "taught", 1)
    assert first["labeled"] == {"segmentation": 4, "depth": 12}
    assert first["teacher"]["asked"] == {"segmentation": 12}
    assert first["teacher"]["made"]["segmentation"] > 0
    assert first["teacher"]["checkpoint"].startswith("initial/")
    assert second["teacher"]["checkpoint"] == "taught/seed_0/cycle_1/teacher/model.pt"
    assert second["teacher"]["asked"] == {"segmentation": 10}  # two were bought over
    assert second["labeled"] == {"segmentation": 6, "depth": second["labeled"]["depth"]}
    assert record(base, "mirror", 0)["teacher"]["asked"] == {"depth": 4}
    assert set(record(base, "single", 0)["labeled"]) == {"segmentation"}
    assert "teacher" not in record(base, "single", 0)
    rows = {(r["arm"], r["cycle"]): r for r in pq.read_table(base / "cycles.parquet").to_pylist()}
    assert rows["taught", 0]["pseudo.segmentation"] == first["teacher"]["made"]["segmentation"]
    assert rows["single", 0]["depth.rmse"] is None
    text = write_report(base).read_text()
    assert "taught: its teacher labeled" in text
    assert rows["single", 0]["mdsq"] >= 0


@pytest.mark.slow
def test_what_people_labeled_is_never_made_up(base: Path) -> None:
    pool = Pool.of_table(pq.read_table(base / "taught" / "seed_0" / "pool.parquet"))
    bought = pq.read_table(base / "taught" / "seed_0" / "cycle_0" / "bought.parquet").to_pylist()
    after = pool.buy({row["key"]: row["tasks"] for row in bought}, 1)
    made = pq.read_table(base / "taught" / "seed_0" / "cycle_1" / "teacher" / "pseudo.parquet")
    rows = after.rows_of(made["key"].to_numpy())
    assert not np.any(after.source[rows, after.tasks.index("segmentation")] == HUMAN)
    assert {source.split(":")[0] for source in made["source"].to_pylist()} == {"pseudo"}
    first = pq.read_table(next(base.glob("initial/*/seed_0/teacher/pseudo.parquet")).parent / "pseudo.parquet")
    assert len(first)
    cost = [record(base, "taught", cycle)["cost"]["seconds"] for cycle in (0, 1)]
    assert cost == [4 * 1500.0, 6 * 1500.0]  # depth costs nothing; pseudo-labels neither
    assert np.array_equal(exporting.bought(RunFolder(base), "taught", 0).source, after.source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost",
    [
        ("taught/seed_0/cycle_1/cycle.json", "taught/seed_0/cycle_1/fitted.json"),
        ("taught/seed_0/cycle_1/cycle.json", "taught/seed_0/cycle_1/fitted.json", "taught/seed_0/cycle_1/teacher"),
        (
            *(f"taught/seed_0/cycle_1/{name}" for name in ("cycle.json", "fitted.json", "teacher/pseudo.json")),
            *(f"taught/seed_0/cycle_1/teacher/{name}" for name in ("labels/shard_00001.parquet", "labels.parquet")),
        ),
    ],
)
def test_a_kill_changes_nothing(base: Path, tmp_path: Path, lost: tuple[str, ...]) -> None:
    shutil.copytree(base.parent, tmp_path / "runs")
    copy = tmp_path / "runs" / base.name
    before = record(copy, "taught", 1)
    for name in lost:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    run(tmp_path / "runs")
    assert results(copy) == results(base)
    after = record(copy, "taught", 1)
    assert {n: v for n, v in after["teacher"].items() if n != "seconds"} == {
        n: v for n, v in before["teacher"].items() if n != "seconds"
    }
