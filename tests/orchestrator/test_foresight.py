"""mtal run --dry-run, as it is typed: what it prints, what it refuses, and that it leaves nothing behind."""

import re
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.tiny import write_tiny


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.yaml, where commands are typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_tiny(tmp_path / "tiny.yaml", tmp_path / "runs")
    return tmp_path


def typed(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["run", *words])
    return int(end.value.code or 0)


def test_it_prints_the_plan_and_writes_nothing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("tiny.yaml", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "tiny: the plan of a run" in text
    assert re.search(r"in all +│ +4 │ +23 │", text)
    assert "16 in the pool, 4 val, 6 test (as the data set will have them); 64 x 96 px" in text
    assert "each arm starts with 6, buys 2 x 2 and ends with 10 of 16" in text
    assert "--address is local)" in text
    assert "not known: add --measure" in text
    assert [path.name for path in desk.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
def test_it_does_not_start_ray(desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.tuning", None)  # importing it would fail
    assert typed("tiny.yaml", "--dry-run") == 0
    assert typed("tiny.yaml", "--dry-run", "--address", "none") == 0
    assert "1 trial on this machine, in one process (--address none)" in capsys.readouterr().out


@pytest.mark.slow
def test_hours_come_from_seconds_that_are_typed_or_measured(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = ("--step-seconds", "3600", "--image-seconds", "0")
    assert typed("tiny.yaml", "--dry-run", "--address", "none", *seconds) == 0
    assert "23.0 hours of trials; done after 23.0 hours" in capsys.readouterr().out
    assert typed("tiny.yaml", "--dry-run", "--address", "none", "--measure") == 0
    assert "s a step of 4 images a process" in capsys.readouterr().out
    assert [path.name for path in desk.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
def test_a_plan_of_data_that_are_not_here(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("nuimages", "--dry-run", "--set", "model.name=small", "--set", "arms={random: {}}") == 2
    assert "data: not prepared, so that nobody knows how many images there are" in capsys.readouterr().err
    words = ("nuimages", "--dry-run", "--set", "model.name=small", "--set", "arms={random: {}}", "--images", "13187")
    assert typed(*words) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "13,187 in the pool, 0 val, 0 test (as typed); 896 x 1600 px; no evaluation is counted" in text
    assert "2 workers of 8 CPU and 1 GPU" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--images", "12"), "--images: only a dry run looks at it; add --dry-run"),
        (("--measure",), "--measure: only a dry run looks at it"),
        (("--image-seconds", "2"), "--image-seconds: only a dry run looks at it"),
        (("--dry-run", "--step-seconds", "2"), "--step-seconds and --image-seconds: one is missing; expected both"),
        (("--dry-run", "--images", "some"), "--images some: expected a number"),
        (("--dry-run", "--set", "model.name=resnet"), "arms.random: model: no model is called 'resnet'"),
    ],
)
def test_what_is_typed_wrongly_is_told(
    desk: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert typed("tiny.yaml", *words) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in desk.iterdir()] == ["tiny.yaml"]
