"""What one process does: small answers, picks that are checked, shards that stay, sources that must agree."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from orchestrator import here, running
from orchestrator.components import Component
from orchestrator.config import experiment_of
from orchestrator.display import Display
from orchestrator.errors import ConfigError, RunError
from orchestrator.evaluation import evaluate, figures, merged
from orchestrator.identity import HOME
from orchestrator.ray_workers import WorkerProcess
from orchestrator.store import read_table
from orchestrator.trials import Plan, Unit
from orchestrator.worker import Worker
from orchestrator.workers import ScoreJob, SelectJob
from tests.tiny import tiny

QUIET = Display(Console(quiet=True))
BAD = "tests.orchestrator.bad_strategies"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A prepared plan whose reference is made: a checkpoint to work with."""
    tree = tiny(tmp_path_factory.mktemp("runs"))
    tree["train"] |= {"validate_every": 4}
    plan = running.planned(experiment_of(tree, "tiny.yaml"), QUIET.update)
    assert here.run_units(plan, [Unit("reference", "", 0)], QUIET) == []
    return plan


@pytest.fixture
def worker(plan: Plan) -> Worker:
    return Worker(plan.setup(Unit("reference", "", 0)))


def checkpoint(plan: Plan) -> str:
    return str(next(plan.folder.root.glob("reference/*/seed_0/model.pt")))


def score_job(plan: Plan, folder: Path, name: str, labeled: np.ndarray) -> ScoreJob:
    return ScoreJob(str(folder), checkpoint(plan), {"x": Component(name)}, 0, 0, labeled, "train", "stamp")


def selected(plan: Plan, worker: Worker, folder: Path, name: str, budget: int = 2) -> list[str]:
    labeled = np.arange(16) < 4
    for shard in range(4):
        worker.score_shard(score_job(plan, folder, name, labeled), shard)
    job = SelectJob(str(folder), "x", Component(name), budget, 0, 0, labeled)
    return [bought.id for bought in worker.select(job)]


@pytest.mark.slow
def test_the_answer_of_a_shard_is_small(plan: Plan, worker: Worker, tmp_path: Path) -> None:
    """No prediction, no image leaves the process that made it."""
    answer = worker.score_shard(score_job(plan, tmp_path, "boxmask", np.zeros(16, bool)), 0)
    assert answer[0] == 5
    assert len(pickle.dumps(answer)) < 20 * 5


def test_a_shard_that_is_there_is_not_scored_again(plan: Plan, worker: Worker, tmp_path: Path) -> None:
    job = score_job(plan, tmp_path, "equal", np.zeros(16, bool))
    answer = worker.score_shard(job, 1)
    before = (tmp_path / "shard_00001.parquet").stat().st_mtime_ns
    assert worker.score_shard(job, 1) == answer
    assert (tmp_path / "shard_00001.parquet").stat().st_mtime_ns == before
    worker.score_shard(replace(job, inputs="another"), 1)
    assert (tmp_path / "shard_00001.parquet").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TooMany", "select picked 3 images; the budget pays for 2"),
        ("Twice", "select picked an image twice"),
        ("Elsewhere", "'nowhere'"),
        ("NotANumber", "value is nan for image"),
        ("Raises", r"ZeroDivisionError: division by zero \(bad_strategies.py, line \d+\)"),
    ],
)
def test_what_a_strategy_does_wrong_is_named(
    plan: Plan, worker: Worker, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        selected(plan, worker, tmp_path, f"{BAD}:{name}")


@pytest.mark.slow
def test_a_fault_of_a_member_is_told_by_the_line_of_the_member(plan: Plan, worker: Worker, tmp_path: Path) -> None:
    job = score_job(plan, tmp_path, "ranks", np.zeros(16, bool))
    members = Component("ranks", {"members": ["random", {"name": f"{BAD}:Raises"}]})
    with pytest.raises(ConfigError, match=r"division by zero \(bad_strategies.py, line \d+\)"):
        worker.score_shard(replace(job, strategies={"x": members}), 0)


def test_a_diversity_strategy_sees_the_labeled_images_and_buys_one_task(
    plan: Plan, worker: Worker, tmp_path: Path
) -> None:
    ids = selected(plan, worker, tmp_path, f"{BAD}:Centres")
    labeled = worker.manifest.ids(worker.rows("train")[:4])
    assert len(set(ids)) == 2
    assert not set(ids) & set(labeled)


def test_what_is_left_out_is_neither_scored_nor_picked(plan: Plan, worker: Worker, tmp_path: Path) -> None:
    labeled, left_out = np.arange(16) < 4, np.isin(np.arange(16), (5, 6, 7, 8, 12, 13, 14, 15))
    for name, images in (("random", 4), (f"{BAD}:Centres", 8)):
        folder = tmp_path / name.replace(":", "")
        job = replace(score_job(plan, folder, name, labeled), left_out=left_out)
        assert sum(worker.score_shard(job, shard)[0] for shard in range(4)) == images
        picks = worker.select(SelectJob(str(folder), "x", Component(name), 2, 0, 0, labeled))
        rows = worker.manifest.rows_of(np.array([pick.key for pick in picks], np.uint64))
        assert not left_out[np.searchsorted(worker.rows("train"), rows)].any()


def test_random_reads_no_image(plan: Plan, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr("tasks.data.samples.decode", refuse)
    images, forwards = worker.score_shard(score_job(plan, tmp_path, "random", np.zeros(16, bool)), 0)
    assert (images, forwards) == (5, 0.0)


def test_metrics_of_shards_add_up_to_those_of_the_whole(plan: Plan, worker: Worker) -> None:
    model, rows = worker.model(checkpoint(plan)), worker.rows("test")
    samples = worker.samples(rows)

    def metrics(part: slice) -> dict:  # type: ignore[type-arg]
        return evaluate(model, samples, rows[part].tolist(), worker.tasks, worker.classes, 2)

    whole = figures(metrics(slice(None)))
    parts = figures(merged([metrics(slice(4, 6)), metrics(slice(0, 4))]))
    assert {k: repr(v) for k, v in whole.items()} == {k: repr(v) for k, v in parts.items()}


def test_two_versions_of_the_sources_do_not_work_together(plan: Plan) -> None:
    setup = replace(plan.setup(Unit("reference", "", 0)), code="0123456789abcdef", home="/its/place")
    with pytest.raises(RunError, match=rf"runs other sources .*{HOME}.* than the command .*in /its/place"):
        WorkerProcess(None, ()).call(setup, "u", "count", "train")


def test_figures_while_training_are_those_of_the_whole_validation_split(plan: Plan, worker: Worker) -> None:
    table = read_table(Path(checkpoint(plan)).with_name("validation.parquet")).to_pylist()
    assert sorted({row["step"] for row in table}) == [4, 6]
    model, rows = worker.model(checkpoint(plan)), worker.rows("val")
    found = figures(evaluate(model, worker.samples(rows), rows.tolist(), worker.tasks, worker.classes, 4))
    assert {row["metric"]: repr(row["value"]) for row in table if row["step"] == 6} == {
        name: repr(value) for name, value in found.items()
    }


@pytest.mark.slow
def test_weights_of_a_seed_are_the_same_everywhere(plan: Plan) -> None:
    """Whether figures on the validation split are kept or not."""
    one, two = (torch.load(p, weights_only=True)["model"] for p in [checkpoint(plan)] * 2)
    assert all(torch.equal(one[n], two[n]) for n in one)
    again = plan.folder.root.parent / "again"
    other = running.planned(experiment_of(tiny(again), "tiny.yaml"), QUIET.update)
    assert here.run_units(other, [Unit("reference", "", 0)], QUIET) == []
    three = torch.load(checkpoint(other), weights_only=True)["model"]
    assert all(torch.equal(one[n], three[n]) for n in one)


@pytest.mark.slow
def test_a_model_that_reads_depth_is_given_it_everywhere(tmp_path: Path) -> None:
    """In training, evaluation, scoring and the gallery, and in the report."""
    tree = tiny(
        tmp_path,
        data={"name": "workbench", "images": 8, "validation": 2, "test": 3, "size": [48, 64]},
        tasks={"pickup": {"cm_per_px": 0.8}},
        model={"name": "hourglass", "width": 8, "levels": 4},
        active={"initial": 3, "budget": {"amount": 2}, "cycles": 1},
        arms={"coreset": {"strategy": "coreset"}},
    )
    plan = running.planned(experiment_of(tree, "tiny.yaml"), QUIET.update)
    report, failures = running.run(plan, lambda plan, units: here.run_units(plan, units, QUIET))
    assert failures == []
    assert report.is_file()
    assert len(list(plan.folder.root.glob("coreset/seed_0/cycle_*/gallery/*.png"))) == 1
    rows = read_table(plan.folder.root / "cycles.parquet").to_pylist()
    assert [0 <= row["pickup.pickup_rate"] <= 1 for row in rows] == [True, True]


def test_a_sensor_that_no_data_set_holds_is_told_before_the_run(tmp_path: Path) -> None:
    experiment = experiment_of(tiny(tmp_path, model={"name": "tests.toy:Sensing"}), "tiny.yaml")
    with pytest.raises(ConfigError, match=r"reads 'lidar', which no data set holds; expected rgb and depth"):
        running.check(experiment)
