"""The page and the main table of a study, from run folders on disk."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.errors import ConfigError
from orchestrator.studies.convergence import outcomes
from orchestrator.studies.convergence_page import main_rows, method_called, terminal_table, write_study
from orchestrator.studies.convergence_runs import study_of
from tests.orchestrator.studies.fake_study import write_fake_study
from tests.orchestrator.test_report import Page

SUMMED = "pickup.summed_error"
SECTIONS = ["result", "boxes", "curves", "weights", "saved", "tests", "runs"]


def page(folder: Path, out: Path, error: str = SUMMED, ours: str = "") -> Page:
    write_study(study_of([folder], error), ours, out / "study.html")
    return Page(out / "study.html")


@pytest.mark.slow
def test_the_page_is_whole(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup", dead=[("kgc", 1)], unfinished=[("iou", 2)])
    found = page(folder, tmp_path)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    assert max(found.ids.values()) == 1
    assert found.scripts == 0
    assert not [link for link in found.links if not link.startswith(("#", "data:"))]
    assert found.source.count("<svg") == 3
    for words in (
        "14 runs of 3 methods, cycle 0",
        "1 run is not in this study: iou, seed 2: its cycle 0 is not finished",
        "What auxnet saves (Table II)",
        "0.029 (0.048)",  # of 4 and 4 runs that do not overlap: the largest of three, raised to the one before
        "With 5 and 4 runs the smallest p that a test can give is 0.016, and 0.048 for the first of 3 pairs",
    ):
        assert words in found.text, words
    assert page(folder, tmp_path).source == found.source


@pytest.mark.slow
def test_the_extremes_and_what_is_saved(tmp_path: Path) -> None:
    found = page(write_fake_study(tmp_path / "pickup"), tmp_path, ours="kgc")
    assert "kgc 10 100 0.0167 1" in found.text  # smallest and largest W of dist, then of iou
    assert "iou \N{EN DASH} \N{EN DASH} 1 1" in found.text
    assert re.search(r"by means iou [^%]+ %", found.text)
    assert "\N{MINUS SIGN}" in re.findall(r"auxnet ([^%]+) %", found.text)[-1], "kgc is slower than auxnet"


def test_no_living_run_is_a_page_too(tmp_path: Path) -> None:
    every = [(arm, seed) for arm in ("iou", "kgc") for seed in range(5)]
    found = page(write_fake_study(tmp_path / "pickup", arms=("iou", "kgc"), dead=every), tmp_path, "mdsq")
    assert "No run is alive" in found.text
    assert "1 \N{MINUS SIGN} mDSQ" in found.text
    assert "It takes two methods" in found.text


@pytest.mark.slow
def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path / "pickup", seeds=(0,))
    text = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(text.replace("name: pickup", "name: <script>x</script>"))
    assert page(folder, tmp_path).scripts == 0


def test_the_main_table(tmp_path: Path) -> None:
    study = study_of([write_fake_study(tmp_path / "pickup", dead=[("kgc", 1)])], SUMMED)
    rows = {row.method: row for row in main_rows(study, outcomes(study.runs, SUMMED))}
    assert (rows["kgc"].runs, rows["kgc"].dead, rows["iou"].dead) == (5, "1", "0")
    assert float(rows["auxnet"].steps.replace(",", "")) < float(rows["kgc"].steps.replace(",", ""))
    assert float(rows["auxnet"].error) == pytest.approx(0.28, abs=0.03)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(terminal_table(study))
    assert "pickup: steps until convergence, and pickup.summed_error" in shown.get()
    assert re.search(r"kgc +5 +1 ", shown.get())


def test_ours_is_a_method_or_its_arm(tmp_path: Path) -> None:
    one, two = (write_fake_study(tmp_path / name, arms=("kgc", "iou"), seeds=(0, 1)) for name in ("a", "b"))
    study = study_of([one, two], SUMMED)
    assert method_called(study, "") == "a/kgc"
    assert method_called(study, "b/iou") == "b/iou"
    with pytest.raises(ConfigError, match=r"--ours kgc: several methods are called so; expected one of a/kgc, a/iou"):
        method_called(study, "kgc")
    with pytest.raises(ConfigError, match=r"--ours auxnet: no method is called so"):
        method_called(study, "auxnet")
    assert method_called(study_of([write_fake_study(tmp_path / "c")]), "") == "auxnet"


@pytest.mark.slow
def test_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake_study(tmp_path / "pickup")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["study", "convergence", "pickup", "--error", SUMMED])
    assert end.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith("page: study.html")
    assert Page(tmp_path / "study.html").ids["tests"] == 1
    with pytest.raises(SystemExit) as end:
        main(["study", "convergence", "nothing", "--out", "other.html"])
    assert end.value.code == 2
    assert "error: nothing: has no experiment.yaml" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()
