"""Below the tables: what a mark means, and what teachers labeled."""

from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator import tables
from orchestrator.curves import Results
from orchestrator.footnotes import MARK, footnotes
from orchestrator.report import terminal_table, write_report
from tests.orchestrator.fake_run import write_fake_run

TASKS = ("segmentation", "depth")
ARMS = {
    "random": {"strategy": "random"},
    "shown": {"model.inputs": ["rgb", "depth"]},
    "single": {"model.inputs": ["rgb", "depth"], "tasks": ["segmentation"]},
    "taught": {"teacher": {"task": "segmentation", "inputs": ["rgb", "depth"]}},
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A run in which one arm has a teacher, and one has no depth."""
    folder = write_fake_run(tmp_path / "run", arms=ARMS, tasks=TASKS, pictures=0)
    rows = pq.read_table(folder / "cycles.parquet").to_pylist()
    for row in rows:
        if row["arm"] == "single":
            row |= {"depth.rmse": None, "labeled.depth": None}
        taught = row["arm"] == "taught"
        row |= {"pseudo.segmentation": 100 - row["cycle"] if taught else None}
        row |= {"coverage.segmentation": 0.5 if taught else None, "teacher.segmentation.miou": 0.6 if taught else None}
    pq.write_table(pa.Table.from_pylist(rows), folder / "cycles.parquet")
    return Results.load(folder)


def test_a_figure_whose_output_was_an_input_is_marked_and_not_compared(results: Results) -> None:
    last = {row.arm: dict(zip(tables.columns(results), row.figures, strict=True)) for row in tables.headline(results)}
    marked = {(arm, metric) for arm, row in last.items() for metric, text in row.items() if text.endswith(" *")}
    assert marked == {("shown", "mdsq"), ("shown", "depth.rmse")}
    assert [row.pair.arm for row in tables.differences(results)] == ["single", "taught"]
    assert last["single"]["depth.rmse"] == tables.NOTHING
    cycles = {one.arm: one.rows for one in tables.cycle_table(results)}
    assert cycles["shown"][0].figures[0].endswith(" *")
    assert cycles["shown"][0].difference == ""
    assert cycles["taught"][1].difference != ""


def test_what_stands_below(results: Results) -> None:
    assert footnotes(results) == [
        MARK,
        "taught: its teacher labeled 97 images for segmentation in the last cycle (coverage 50 %); "
        "its own mIoU is 60.0.",
    ]
    console = Console(width=200, record=True, file=StringIO())
    console.print(terminal_table(results))
    text = " ".join(console.export_text().split())
    assert "taught: its teacher labeled 97 images" in text
    assert MARK in text
    assert "taught: its teacher labeled 97 images" in write_report(results.folder).read_text()


def test_a_run_without_either_has_none(tmp_path: Path) -> None:
    assert footnotes(Results.load(write_fake_run(tmp_path / "run", pictures=0))) == []
