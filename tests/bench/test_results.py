"""The file of results keeps its rows and its sections apart; the table of deviations fails where it has to."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bench import bench_golden, results
from tests.bench.bench_golden import row_of, rows_of, stated_tolerances
from tests.bench.comparisons import COMPARISONS, Compared

TEXT = "# Measured\n\n| date | figure |\n|---|---|\n| 1 | a |\n"
STATED = "| `ll4al.npz` | main.py | 3, 4 | `r{k}_pred` -> modules | 2e-8 |\n| `x.npz` | b | c | d | 1e-3; sum 2e-6 |"


def test_rows_stay_in_the_table_and_sections_behind_it() -> None:
    with_one = results.with_section(TEXT, "Deviation", "old\n")
    assert with_one == TEXT + "\n## Deviation\n\nold\n"
    with_two = results.with_section(with_one, "Other", "kept")
    changed = results.with_row(results.with_section(with_two, "Deviation", "new\n\nlines"), "| 2 | b |\n")
    assert changed == TEXT + "| 2 | b |\n\n## Deviation\n\nnew\n\nlines\n\n## Other\n\nkept\n"
    assert results.with_section(changed, "Other", "kept") == changed
    assert results.with_row(TEXT, "| 2 | b |\n") == TEXT + "| 2 | b |\n"


def test_both_are_written_to_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(results.HERE / "bench_golden.py")])
    monkeypatch.setattr(results, "HERE", tmp_path / "tests" / "bench")
    monkeypatch.setattr(results, "command", lambda: "python some.py")
    results.HERE.mkdir(parents=True)
    for figure in ("first", "second"):
        results.record_section("Deviation", f"{figure} table")
        results.record(figure)
    text = (results.HERE / "RESULTS.md").read_text()
    table, _, section = text.partition("\n## Deviation\n")
    assert [line.split(" | ")[-1] for line in table.splitlines()[-2:]] == ["first |", "second |"]
    assert section.startswith("\nsecond table\n\n")
    assert section.endswith("; `python some.py`\n")
    assert "first" not in section
    assert "second table" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "theirs", "within", "shown", "passes"),
    [
        ([1, 2], [1, 2], 0.0, "identical", True),
        ([1, 3], [1, 2], 0.0, "**differs**", False),
        ([1.0], [1.0, 1.0], 1e-3, "**differs**", False),
        ([1.0, 0.5], [1.0, 0.4999], 1e-3, "1.0e-4", True),
        ([0.502], [0.5], 1e-3, "**2.0e-3 at 0.5**", False),
        ([50.02, 0.5], [50.0, 0.5], 1e-3, "2.0e-2 at 50", True),
        ([50.02, 0.502], [50.0, 0.5], 1e-3, "**2.0e-2 at 50**", False),  # the smaller one exceeds
        ([np.nan], [0.5], 1e-3, "**differs**", False),
        ([np.nan], [0.5], None, "**differs**", False),
        ([0.6], [0.5], None, "1.0e-1", True),
        ([], [], 1e-3, "identical", True),
    ],
)
def test_what_a_row_says(
    ours: list[float], theirs: list[float], within: float | None, shown: str, passes: bool
) -> None:
    same = Compared("q", "f", [0.5], [0.5], within)
    row = row_of("x.npz", [same, Compared("q", "f", ours, theirs, within), same], "1e-3; sum 2e-6")
    assert (row.cells[3], row.passes) == (shown, passes)


def test_a_tolerance_that_is_not_stated_fails() -> None:
    stated = stated_tolerances(STATED)
    assert stated == {"ll4al": "2e-8", "x": "1e-3; sum 2e-6"}
    assert row_of("x.npz", [Compared("q", "f", [1.0], [1.0], 2e-6)], stated["x"]).passes
    assert not row_of("x.npz", [Compared("q", "f", [1.0], [1.0], 1e-5)], stated["x"]).passes


def test_what_nobody_compares_fails_unless_it_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "later.npz", loss=np.ones(2), r_seed=np.zeros(1))
    (row,) = rows_of(tmp_path / "later.npz", "")
    assert not row.passes
    assert str(row) == "| later.npz | loss | - | **not compared** | - |"
    monkeypatch.setitem(bench_golden.LEFT_OUT, "later", (".*", "everything", "such a loss does not exist yet"))
    (row,) = rows_of(tmp_path / "later.npz", "")
    assert row.passes
    assert str(row) == "| later.npz | everything | - | not compared: such a loss does not exist yet | - |"


def test_without_the_files_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_golden, "SHARED", tmp_path)
    assert bench_golden.main() == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARISONS)
def test_every_file_is_within_what_is_stated(shared: Path, name: str) -> None:
    stated = stated_tolerances((shared / "golden" / "README.md").read_text())
    rows = rows_of(shared / "golden" / f"{name}.npz", stated[name])
    assert rows
    assert [str(row) for row in rows if not row.passes] == []


def test_every_file_is_compared(shared: Path) -> None:
    there = {path.stem for path in (shared / "golden").glob("*.npz")}
    assert there - set(bench_golden.LEFT_OUT) <= set(COMPARISONS)
