"""Rows, tables and notes from runs whose seconds are known."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.components import Component
from orchestrator.config import Cluster
from orchestrator.errors import RunError
from orchestrator.meter import Reading
from orchestrator.throughput import COLUMNS, Bench, Run, Site, append, notes, rows, save, table
from orchestrator.workers import Setup

SETUP = Setup("m", {}, Component("small"), Component("equal"), 16, 512, 1, 0, False, "code")
MIB = 2**20
WHEN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def run(workers: int, shard: int, seconds: float, **changes: Any) -> Run:
    """100 images, of which each worker was busy for nine tenths of the time."""
    busy = {"shard": 0.9 * seconds, "forward": 0.5 * seconds, "scores": 0.2 * seconds, "read": 0.3 * seconds}
    one = Reading(busy, (), 900 * MIB, 600 * MIB, 5 * MIB, MIB)
    values = {"readings": [one] * workers, "job": 2048, "chosen": (("a", "b"),), **changes}
    return Run(workers, shard, 100, seconds, 0.25, **values)


def bench(**changes: Any) -> Bench:
    runs = [run(1, 16, s) for s in (10.0, 12.5, 8.0)] + [run(2, 16, s) for s in (5.0, 6.25, 5.0)]
    values: Mapping[str, Any] = {
        "config": "demo", "site": Site("auto", ({"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}), Cluster()), "load": 0.1,
        "setup": SETUP, "size": (96, 160), "images": 100, "strategies": {"equal": Component("equal")}, "runs": runs,
        "steps": {1: 0.4, 2: 0.3}, "start": 6.0, "command": Reading({}, (), 700 * MIB, None, None, None),
        "work": (3600, 36000),
    }  # fmt: skip
    return Bench(**{**values, **changes})


def test_lines_are_medians_with_their_range() -> None:
    found = bench()
    one, two = found.lines
    assert (one.rate, one.slowest, one.fastest) == (10.0, 8.0, 12.5)
    assert (two.rate, found.of_ideal(one), found.of_ideal(two)) == (20.0, 1.0, 1.0)
    assert (two.phase("forward"), two.phase("idle")) == (pytest.approx(50.0), pytest.approx(10.0))
    assert (two.largest("rss"), two.largest("pss"), two.moved("read")) == (900, 600, 10)
    assert found.hours(one) == pytest.approx((3600 * 0.4 + 3600) / 3600)
    assert found.hours(two) == pytest.approx((3600 * 0.3 + 1800) / 3600)


def test_rows_say_what_where_and_how_fast(tmp_path: Path) -> None:
    found = rows(bench(), WHEN)
    assert all(set(row) == set(COLUMNS) for row in found)
    append(tmp_path, found)
    append(tmp_path, rows(bench(config="other", steps={}), WHEN))
    with (tmp_path / "bench.csv").open() as file:
        back = list(csv.DictReader(file))
    assert [(r["config"], r["workers"], r["images_per_s"], r["step_s"]) for r in back] == [
        ("demo", "1", "10", "0.4"), ("demo", "2", "20", "0.3"), ("other", "1", "10", ""), ("other", "2", "20", ""),
    ]  # fmt: skip
    assert (back[0]["time"], back[0]["cpus_by_node"], back[0]["gpus_by_node"]) == ("2026-11-21T12:00:00Z", "2 1", "0 1")
    assert (back[0]["height"], back[0]["model"], back[0]["command_pss_mib"]) == ("96", "small", "")
    assert all(back[0][name] for name in ("machine", "ray", "torch", "mtal", "code", "load", "worker_pss_mib"))


def test_a_file_with_other_columns_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"bench.csv: has other columns than this version writes \(a, address, .*: move"):
        save(bench(), tmp_path)
    assert (tmp_path / "bench.csv").read_text() == "a,b\n1,2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bench.csv"]


def test_the_table_and_its_notes_fit_on_a_page() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(bench()))
    text = console.export_text()
    assert "demo: equal, small, 96 x 160 px" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 120
    cells = next(line.split() for line in text.splitlines() if line.split()[:2] == ["2", "16"])
    assert cells[2:6] == ["20.0", "16.0-20.0", "100", "%"]
    said = "\n".join(notes(bench()))
    assert "a training step: 0.400 s by 1, 0.300 s by 2 processes" in said
    assert "3,600 steps and 36,000 images to score: about 1.4 h with 1, 0.8 h with 2 workers" in said
    assert "reads 10.0 MiB, writes 2.0 MiB and sends a job of 2.0 KiB" in said
    assert "was busy" not in said
    assert "did not choose the same" not in said


def test_what_makes_figures_doubtful_is_said() -> None:
    other = [run(1, 16, 1.0), run(2, 16, 1.0, chosen=(("b", "a"),))]
    said = "\n".join(notes(bench(load=3.0, runs=other)))
    assert "this machine was busy before (load 3.0)" in said
    assert "did not choose the same images" in said
    stub = Component("orchestrator.stub_network:StubNetwork", {"ms": 50.0})
    assert bench(setup=Setup(**{**vars(SETUP), "model": stub})).model == "stub of 50 ms CPU an image"
    blind = Reading({"shard": 1.0}, (), MIB, None, None, None)
    blind_run = run(1, 16, 1.0, readings=[blind])
    assert rows(bench(runs=[blind_run]), WHEN)[0]["read_mib"] is None
    assert "reads (not known), writes (not known)" in "\n".join(notes(bench(runs=[blind_run])))
