"""mtal bench on one worker: what it prints, writes and refuses; it leaves nothing behind. More is in tests/ray."""

import csv
import os
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import bench as room
from orchestrator import running
from orchestrator.bench import Asked, bench, numbers
from orchestrator.cli import main
from orchestrator.components import Component
from orchestrator.config import experiment_of
from orchestrator.display import Display
from orchestrator.errors import ConfigError, RunError
from orchestrator.throughput import Bench
from orchestrator.trials import Plan
from tests.tiny import tiny, write_tiny

QUIET = Display(Console(quiet=True))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    output = tmp_path_factory.mktemp("bench")
    return running.planned(experiment_of(tiny(output), "tiny.yaml"), QUIET.update)


@pytest.fixture(scope="module")
def measured(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A real network in this process: 10 of 16 images, which are no whole number of shards."""
    asked = Asked(images=10, shards=(4, 8), runs=2, steps=2)
    return bench(plan, asked, "none", tmp_path_factory.mktemp("out"), QUIET)


@pytest.mark.slow
def test_every_combination_was_run_in_turns(measured: Bench) -> None:
    assert [(run.workers, run.shard, run.images) for run in measured.runs] == [(1, 4, 10), (1, 8, 10)] * 2
    assert [(line.workers, line.shard, len(line.runs)) for line in measured.lines] == [(1, 4, 2), (1, 8, 2)]
    assert measured.agrees
    assert len(measured.runs[0].chosen[0]) == 1  # a tenth
    assert set(measured.strategies) == {"boxmask"}  # random looks at nothing
    assert set(measured.steps) == {1}


@pytest.mark.slow
def test_the_phases_of_a_run_are_the_time_of_its_workers(measured: Bench) -> None:
    for run in measured.runs:
        phases = run.phases()
        assert set(run.readings[0].seconds) == {"shard", "read", "wait", "forward", "scores", "write"}
        assert sum(phases.values()) - phases["read"] == pytest.approx(1000 * run.seconds / 10)
        assert min(phases.values()) >= 0


@pytest.mark.slow
def test_the_whole_experiment_is_counted(measured: Bench) -> None:
    steps = 6 + 5 + 2 * 2 * 3  # reference, cycle 0 of both arms, and two purchases of each
    assert measured.work == (steps, (16 - 6) + (16 - 8))  # boxmask alone looks at images
    line = measured.lines[0]
    assert measured.hours(line) == pytest.approx((steps * measured.steps[1] + 18 / line.rate) / 3600)


@pytest.mark.slow
def test_a_checkpoint_or_a_stub_in_place_of_fresh_weights(plan: Plan, tiny_run: Path, tmp_path: Path) -> None:
    model = tiny_run / "runs" / "tiny" / "random" / "seed_0" / "cycle_1" / "model.pt"
    asked = Asked(images=8, shards=(8,), runs=1, steps=0, strategies=("equal", "coreset"), checkpoint=str(model))
    loaded = bench(plan, asked, "none", tmp_path, QUIET)
    assert list(loaded.strategies) == ["equal", "coreset"]
    assert (loaded.model, loaded.steps, loaded.hours(loaded.lines[0])) == ("small (width: 16)", {}, None)
    stub = bench(plan, Asked(images=8, shards=(8,), runs=1, stub_ms=5), "none", tmp_path, QUIET)
    assert (stub.model, stub.steps) == ("stub of 5 ms CPU an image", {})
    assert stub.strategies == {"entropy": Component("entropy", {"task": "seg"})}
    assert stub.lines[0].phase("forward") >= 5
    assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.slow
def test_the_command_prints_a_table_and_appends_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.yaml", Path("runs"))
    words = ["bench", "tiny.yaml", "--address", "none", "--images", "8", "--shards", "4", "--runs", "1", "--steps", "1"]
    for turn in (1, 2):
        with pytest.raises(SystemExit) as end:
            main([*words, *(["--stub-ms", "1"] if turn == 2 else [])])
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert ("a training step: " in out, "stub of 1 ms CPU an image" in out) == (turn == 1, turn == 2)
        with (tmp_path / "runs" / "bench" / "bench.csv").open() as file:
            found = list(csv.DictReader(file))
        assert len(found) == turn
        plot = Path(out.split("plot: ")[1].strip())
        assert "shards of 4" in plot.read_text()
    assert [(row["workers"], row["model"]) for row in found] == [
        ("1", "small (width: 16)"), ("1", "stub of 1 ms CPU an image"),
    ]  # fmt: skip
    assert {row["config"] for row in found} == {"tiny"}
    assert found[1]["step_s"] == ""
    assert not [path for path in (tmp_path / "runs" / "bench").iterdir() if path.name.startswith(".work")]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(workers=(2,)), r"--workers 2: there is room for 1 at a time; expected at most as many"),
        (Asked(strategies=("nothing",)), r"no strategy is called 'nothing'"),
        (Asked(strategies=("ll4al",)), r"reads 'predicted_loss'"),
        (Asked(checkpoint="nowhere.pt"), r"nowhere.pt: no such checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_refused(plan: Plan, tmp_path: Path, asked: Asked, words: str) -> None:
    with pytest.raises((ConfigError, RunError), match=words):
        bench(plan, asked, "none", tmp_path, QUIET)
    assert os.listdir(tmp_path) == [".lock"]


def test_a_file_of_another_version_is_refused_before_anything_is_measured(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="move the file away, or choose another --out"):
        bench(plan, Asked(), "none", tmp_path, QUIET)
    assert os.listdir(tmp_path) == ["bench.csv"]


@pytest.mark.slow
def test_a_failure_in_the_middle_leaves_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RunError("in the middle")

    monkeypatch.setattr(room, "_step_seconds", fails)
    with pytest.raises(RunError, match="in the middle"):
        bench(plan, Asked(images=4, runs=1), "none", tmp_path, QUIET)
    assert os.listdir(tmp_path) == [".lock"]


def test_numbers_are_read() -> None:
    assert (numbers("--workers", ""), numbers("--workers", "1, 2,4")) == ((), (1, 2, 4))
    for text in ("1,1", "0", "two", "1,,2", "-1"):
        with pytest.raises(ConfigError, match=r"--workers .*: expected whole numbers above 0, each once, such as"):
            numbers("--workers", text)
    with pytest.raises(ConfigError, match="a stub has no checkpoint"):
        Asked(checkpoint="a", stub_ms=1.0)
