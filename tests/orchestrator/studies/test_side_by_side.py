"""Pictures of several arms on the same frames, of a run that was really made."""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.errors import ConfigError, RunError
from orchestrator.studies.side_by_side import Wish, side_by_side
from tests.orchestrator.test_report import Page


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run: detection and segmentation, two arms."""
    shutil.copytree(tiny_run / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "tiny"


def test_each_arm_stands_beside_the_truth(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert side_by_side(run, Wish(("random", "boxmask"), 3), out) == 3
    page = Page(out)
    assert page.scripts == 0
    assert len(page.pictures) == 3 * 4, "image, truth and two arms"
    captions = [str(one["alt"]).partition(": ")[2] for one in page.pictures[:4]]
    assert captions[:2] == ["image", "truth"]
    assert captions[2].startswith("random: mIoU ")
    assert captions[3].startswith("boxmask: mIoU ")
    assert all(str(one["src"]).startswith("data:image/jpeg") for one in page.pictures)
    assert "of the split “test”" in page.text
    assert "pedestrian" in page.text, "the legend"
    other = tmp_path / "other.html"
    side_by_side(run, Wish(("random", "boxmask"), 3, draw=3), other)
    assert Page(other).pictures != page.pictures


def test_what_cannot_be_shown_is_a_sentence(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for wish, says in (
        (Wish(("random", "rgb")), "--arms rgb: the run has no such arm; expected one of random, boxmask"),
        (Wish(("random", "random")), "named twice"),
        (Wish(("random",), seed=7), "--seed 7: the run has no such seed; expected one of 0"),
        (Wish(("random",), images=999), "--images 999: expected at most 200"),
    ):
        with pytest.raises(ConfigError, match=says):
            side_by_side(run, wish, out)
    with pytest.raises(RunError, match=r"has no experiment.yaml and reference.json"):
        side_by_side(tmp_path, Wish(("random",)), out)
    marker = run / "random" / "seed_0" / "cycle_2" / "cycle.json"
    marker.write_text(json.dumps({"checkpoint": "../../outside.pt"}))
    with pytest.raises(RunError, match=r"its checkpoint lies outside of the run folder"):
        side_by_side(run, Wish(("random",)), out)
    shutil.rmtree(run / "boxmask" / "seed_0" / "cycle_0")
    with pytest.raises(RunError, match=r"boxmask, seed 0: no cycle is finished"):
        side_by_side(run, Wish(("boxmask",)), out)
    assert not out.exists()


def test_as_it_is_typed(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(run.parents[1])
    with pytest.raises(SystemExit) as end:
        main(["study", "side-by-side", "runs/tiny", "--arms", "boxmask", "--images", "2"])
    assert end.value.code == 0
    assert "pictures: side_by_side.html: 2 images of 1 arms" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["study", "side-by-side", "runs/tiny", "--arms", ","])
    assert end.value.code == 2
    assert "--arms ,: names no arm" in capsys.readouterr().err
